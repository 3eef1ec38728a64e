"""Test score against the number of trainable parameters, with the Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from harness.record import Record
from reports.comparison import Row
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
    title_height,
)
from reports.sheet import MARGINS, Foot, panel_heights, sheet

NOTE = (
    "Bars: 95 % interval of the mean over seeds. Grey steps: the Pareto front, which no run beats "
    "in both. The head's parameters count."
)


def draw(records: Sequence[Record]) -> Figure:
    """Return one panel for every ranking of two rows or more."""
    found = comparable(records, "counted trainable parameters", _trainable)
    styles = looks(row for panel in found for row in panel.rows)
    margins = replace(MARGINS, top=title_height(found))
    figure, all_axes = sheet(
        panel_heights(len(found)), Foot(dot_keys(styles), NOTE), margins=margins
    )
    for axes, panel in zip(all_axes, found, strict=True):
        _draw_panel(axes, panel, styles)
    return figure


def _trainable(row: Row) -> int | None:
    params = row.record.params
    return params.trainable if params and params.trainable else None


def _draw_panel(axes: Axes, panel: Panel, styles: Mapping[str, Look]) -> None:
    rows = panel.rows
    counts = [float(_trainable(row) or 0) for row in rows]
    log_scale(axes, counts, base=10)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.set_ylim(*score_limits(rows))
    draw_front(axes, rows, counts, axes.get_xlim()[1])
    for row, count in zip(rows, counts, strict=True):
        look = styles[label_of(row)]
        draw_interval(axes, row, count, look.colour)
        axes.add_line(dot(look, [count], [100 * row.mean]))
    axes.set_xlabel("trainable parameters", labelpad=2)
    axes.set_ylabel(score_label(panel.record), labelpad=2)
    set_title(axes, panel)


def _short(count: float) -> str:
    """Return ``"10 k"`` for 10,000."""
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:g}{name}"
    return f"{count:g}"
