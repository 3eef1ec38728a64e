"""Validation score over epochs of every method: mean and range over the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.errors import UserError
from harness.record import Record
from reports.comparison import Row
from reports.labels import label_of
from reports.panels import (
    Curve,
    Look,
    Panel,
    draw_band,
    line_keys,
    looks,
    panels,
    runs_of_rows,
    score_label,
    set_title,
    title_height,
)
from reports.sheet import MARGINS, Foot, panel_heights, sheet

NOTE = "Lines: mean over seeds. Bands: from the lowest to the highest seed."


def draw(records: Sequence[Record]) -> Figure:
    """Return one panel for every ranking."""
    of_row = runs_of_rows(records)
    drawn = []
    for panel in panels(records):
        curves = [(row, _curve(of_row[row.record.run_key])) for row in panel.rows]
        if any(curve for _, curve in curves):
            drawn.append((panel, [(row, curve) for row, curve in curves if curve]))
    if not drawn:
        raise UserError("No finished run has the validation score of its primary metric by epoch.")
    styles = looks(row for _, curves in drawn for row, _ in curves)
    margins = replace(MARGINS, top=title_height(panel for panel, _ in drawn))
    foot = Foot(line_keys(styles), NOTE)
    figure, all_axes = sheet(panel_heights(len(drawn)), foot, margins=margins)
    for axes, (panel, curves) in zip(all_axes, drawn, strict=True):
        _draw_panel(axes, panel, curves, styles)
    return figure


def _curve(runs: Sequence[Record]) -> Curve:
    """Return the seeds' validation scores in percent, by epoch."""
    curve: dict[int, list[float]] = {}
    for run in runs:
        for row in run.history:
            if run.metrics.primary in row.val:
                curve.setdefault(row.epoch, []).append(100 * row.val[run.metrics.primary])
    return dict(sorted(curve.items()))


def _draw_panel(
    axes: Axes,
    panel: Panel,
    curves: Sequence[tuple[Row, Curve]],
    styles: Mapping[str, Look],
) -> None:
    for row, curve in curves:
        draw_band(axes, curve, styles[label_of(row)])
    axes.set_ylabel(score_label(panel.record), labelpad=2)
    set_title(axes, panel)
