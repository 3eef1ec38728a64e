"""Predicted against measured training peak memory, with the diagonal and the error in percent."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log10
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.errors import UserError
from reports.comparison import Row
from reports.figures import FAINT, INK, spread_heights
from reports.labels import label_of
from reports.panels import (
    Look,
    Panel,
    dot,
    dot_keys,
    log_scale,
    looks,
    repeated,
    set_title,
    size_unit,
    title_height,
)
from reports.sheet import MARGINS, SMALL, Foot, panel_heights, sheet

CLOSE = 1.0
NOTE = (
    "On the line, predicted and measured peak are equal. A number is the prediction's error in "
    f"percent of the measured peak, where it is above {CLOSE:g} %; of the lowest seed."
)


class Point(NamedTuple):
    """Measured and predicted peak of a row, in bytes."""

    row: Row
    measured: int
    predicted: int

    @property
    def error(self) -> float:
        """Error of the prediction in percent."""
        return 100 * (self.predicted / self.measured - 1)


def draw(panels: Sequence[Panel]) -> Figure:
    """Return one panel for every ranking."""
    drawn = [(panel, points) for panel in panels if (points := _points(panel.rows))]
    if not drawn:
        raise UserError(
            "No finished run has both a predicted and a measured training peak; memory.predict and "
            "memory.profile are on by default."
        )
    styles = looks(point.row for _, points in drawn for point in points)
    margins = replace(MARGINS, top=title_height(panel for panel, _ in drawn))
    rows = [[point.row for point in points] for _, points in drawn]
    foot = Foot(dot_keys(styles), NOTE + repeated(rows, styles, lines=False))
    figure, all_axes = sheet(panel_heights(len(drawn)), foot, margins=margins)
    for axes, (panel, points) in zip(all_axes, drawn, strict=True):
        _draw_panel(axes, points, styles)
        set_title(axes, panel)
    return figure


def _points(rows: Sequence[Row]) -> list[Point]:
    points = []
    for row in rows:
        memory = row.record.memory
        if memory and memory.source != "predicted" and memory.predicted_train_peak_bytes:
            points.append(Point(row, memory.train_peak_bytes, memory.predicted_train_peak_bytes))
    return points


def _draw_panel(axes: Axes, points: Sequence[Point], styles: Mapping[str, Look]) -> None:
    smallest = min(min(point.measured, point.predicted) for point in points)
    scale, unit = size_unit(2 * smallest)
    log_scale(axes, [n / scale for point in points for n in (point.measured, point.predicted)])
    axes.set_yscale("log")
    axes.set_ylim(axes.get_xlim())
    axes.yaxis.set_major_locator(axes.xaxis.get_major_locator())
    axes.yaxis.set_minor_locator(axes.xaxis.get_minor_locator())
    axes.yaxis.set_major_formatter(axes.xaxis.get_major_formatter())
    axes.axline((1, 1), (2, 2), color=FAINT, linewidth=0.8, zorder=1)
    for point in points:
        x, y = point.measured / scale, point.predicted / scale
        axes.add_line(dot(styles[label_of(point.row)], [x], [y]))
    _write_errors(axes, points, scale)
    axes.set_xlabel(f"measured peak ({unit})", labelpad=2)
    axes.set_ylabel(f"predicted ({unit})", labelpad=2)


def _write_errors(axes: Axes, points: Sequence[Point], scale: int) -> None:
    """Write the error of every prediction that is not close, one above the other."""
    far = sorted((p for p in points if abs(p.error) > CLOSE), key=lambda point: point.predicted)
    ends = axes.transLimits.transform
    places = [ends((log10(p.measured / scale), log10(p.predicted / scale))) for p in far]
    heights = spread_heights([y for _, y in places], 0.075, 1.0)
    for point, (x, _), height in zip(far, places, heights, strict=True):
        axes.text(
            x + 0.045,
            height - 0.02,
            f"{point.error:+.1f}",
            transform=axes.transAxes,
            va="top",
            size=SMALL - 0.5,
            color=INK,
        )
