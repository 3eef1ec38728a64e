"""The skeleton of figures of scores against something that they cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    looks,
    repeated,
    score_label,
    score_limits,
    set_title,
    title_height,
)
from reports.sheet import MARGINS, Foot, panel_heights, sheet


def score_figure(
    panels: Sequence[Panel],
    cost: Callable[[Row], float | None],
    what: str,
    note: str,
    place: Callable[[Axes, Sequence[Row]], Sequence[float]],
    *,
    above: float = 0.0,
) -> Figure:
    """Return one panel for every ranking of two rows or more, with its Pareto front.

    Args:
        panels: all that there are.
        cost: of a row; None where it is not known.
        what: the cost in words, for the message where no rows have it.
        note: below the figure.
        place: makes a panel's horizontal axis and returns where its rows stand on it.
        above: inches over every panel for what ``place`` writes there.

    Raises:
        UserError: no two rows can be compared.
    """
    found = comparable(panels, what, cost)
    styles = looks(row for panel in found for row in panel.rows)
    margins = replace(MARGINS, top=title_height(found) + above)
    note += repeated([panel.rows for panel in found], styles, lines=False)
    foot = Foot(dot_keys(styles), note)
    figure, all_axes = sheet(panel_heights(len(found)), foot, margins=margins)
    for axes, panel in zip(all_axes, found, strict=True):
        _draw_panel(axes, panel, place(axes, panel.rows), styles)
    return figure


def _draw_panel(
    axes: Axes, panel: Panel, costs: Sequence[float], styles: Mapping[str, Look]
) -> None:
    axes.set_ylim(*score_limits(panel.rows))
    draw_front(axes, panel.rows, costs, axes.get_xlim()[1])
    for row, cost in zip(panel.rows, costs, strict=True):
        look = styles[label_of(row)]
        draw_interval(axes, row, cost, look.colour)
        axes.add_line(dot(look, [cost], [100 * row.mean]))
    axes.set_ylabel(score_label(panel.record), labelpad=2)
    set_title(axes, panel)
