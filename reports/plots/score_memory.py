"""Test score against training peak memory, with the Pareto front and lines of equal memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.record import Record
from reports.comparison import Row
from reports.figures import FAINT, INK
from reports.labels import label_of
from reports.panels import (
    Look,
    Panel,
    comparable,
    dot,
    dot_keys,
    draw_front,
    draw_interval,
    log_scale,
    looks,
    score_label,
    score_limits,
    set_title,
    size_unit,
    title_height,
)
from reports.sheet import MARGINS, SMALL, Foot, panel_heights, sheet

EQUAL = 0.02
"""Inches for the names of the lines of equal memory."""
NOTE = (
    "Bars: 95 % interval of the mean over seeds. Grey steps: the Pareto front, which no run beats "
    "in both. Dotted lines: the same memory as full fine-tuning (as the largest peak, where there "
    "is no such run), a half of it, a quarter ..."
)


def draw(records: Sequence[Record]) -> Figure:
    """Return one panel for every ranking of two rows or more."""
    found = comparable(records, "a measured training peak", lambda row: row.peak_bytes)
    styles = looks(row for panel in found for row in panel.rows)
    margins = replace(MARGINS, top=title_height(found) + EQUAL)
    figure, all_axes = sheet(
        panel_heights(len(found)), Foot(dot_keys(styles), NOTE), margins=margins
    )
    for axes, panel in zip(all_axes, found, strict=True):
        _draw_panel(axes, panel, styles)
    return figure


def _draw_panel(axes: Axes, panel: Panel, styles: Mapping[str, Look]) -> None:
    rows = panel.rows
    peaks = [float(row.peak_bytes or 0) for row in rows]
    scale, unit = size_unit(2 * min(peaks))
    sizes = [peak / scale for peak in peaks]
    log_scale(axes, sizes)
    axes.set_ylim(*score_limits(rows))
    draw_front(axes, rows, sizes, axes.get_xlim()[1])
    _draw_equal_memory(axes, rows, sizes)
    for row, size in zip(rows, sizes, strict=True):
        look = styles[label_of(row)]
        draw_interval(axes, row, size, look.colour)
        axes.add_line(dot(look, [size], [100 * row.mean]))
    axes.set_xlabel(f"training peak ({unit})", labelpad=2)
    axes.set_ylabel(score_label(panel.record), labelpad=2)
    set_title(axes, panel)


def _draw_equal_memory(axes: Axes, rows: Sequence[Row], sizes: Sequence[float]) -> None:
    """Draw a line at the peak of full fine-tuning, or at the largest, and at its halves."""
    full = [s for row, s in zip(rows, sizes, strict=True) if row.record.method == "full"]
    size, share = (full or [max(sizes)])[0], 1
    while size >= axes.get_xlim()[0] and share <= 64:
        axes.axvline(size, color=FAINT, linewidth=0.6, linestyle=":", zorder=0)
        axes.annotate(
            ("full" if full else "max") if share == 1 else f"1/{share}",
            xy=(size, 1.01),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            size=SMALL - 1,
            color=INK,
        )
        size, share = size / 2, share * 2
