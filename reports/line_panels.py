"""Plots whose panels hold a line for every row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.errors import UserError
from harness.record import Epoch, Record
from reports.comparison import Row
from reports.panels import Curve, Look, Panel, line_keys, looks, repeated, title_height
from reports.sheet import HEIGHT, MARGINS, Foot, Margins, panel_heights, sheet

T = TypeVar("T")


def by_epoch(runs: Sequence[Record], value: Callable[[Record, Epoch], float | None]) -> Curve:
    """Return the seeds' values by epoch; epochs without one are left out."""
    curve: dict[int, list[float]] = {}
    for run in runs:
        for epoch in run.history:
            found = value(run, epoch)
            if found is not None:
                curve.setdefault(epoch.epoch, []).append(found)
    return dict(sorted(curve.items()))


def draw_lines(
    panels: Sequence[Panel],
    lines_of: Callable[[Row], T | None],
    draw_panel: Callable[[Axes, Panel, Sequence[tuple[Row, T]], Mapping[str, Look]], None],
    *,
    missing: str,
    note: str,
    margins: Margins = MARGINS,
    height: float = HEIGHT,
) -> Figure:
    """Return one panel of lines for every ranking, under a legend of all.

    Args:
        panels: all that there are.
        lines_of: what is drawn of a row; empty or None for nothing.
        draw_panel: draws the rows that have something, in the looks that are given by label.
        missing: what to say where no row has anything.
        note: below the panels.
        margins: around the axes; their top is made to fit the titles.
        height: of several panels' axes, in inches.

    Raises:
        UserError: no row has anything.
    """
    drawn = []
    for panel in panels:
        known = [(row, lines) for row in panel.rows if (lines := lines_of(row))]
        if known:
            drawn.append((panel, known))
    if not drawn:
        raise UserError(missing)
    styles = looks(row for _, known in drawn for row, _ in known)
    fitting = replace(margins, top=title_height(panel for panel, _ in drawn))
    heights = panel_heights(len(drawn), height)
    note += repeated([[row for row, _ in known] for _, known in drawn], styles, lines=True)
    figure, all_axes = sheet(heights, Foot(line_keys(styles), note), margins=fitting)
    for axes, (panel, known) in zip(all_axes, drawn, strict=True):
        draw_panel(axes, panel, known, styles)
    return figure
