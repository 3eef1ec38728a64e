"""Test scores of all methods, one row for every task, each on its own scale."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.labels import label_of
from reports.palette import words
from reports.panels import (
    Look,
    Panel,
    dot,
    dot_keys,
    looks,
    repeated,
    score_limits,
    title_of,
)
from reports.sheet import SMALL, WIDTH, Foot, Margins, sheet

STRIP = 0.3
LANES = (0.0, 0.55, -0.55)
MARGINS = Margins(left=1.95, right=0.16, top=0.06, bottom=0.24)
NOTE = (
    "Every row has its own scale, in percent; the height of a dot means nothing. Lines "
    "through dots: 95 % interval of the mean over seeds."
)


def draw(panels: Sequence[Panel]) -> Figure:
    """Return one strip for every ranking."""
    styles = looks(row for panel in panels for row in panel.rows)
    note = NOTE + repeated([panel.rows for panel in panels], styles, lines=False)
    foot = Foot(dot_keys(styles), note)
    figure, all_axes = sheet([STRIP] * len(panels), foot, columns=1, margins=MARGINS)
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_strip(axes, panel, styles)
    return figure


def _draw_strip(axes: Axes, panel: Panel, styles: Mapping[str, Look]) -> None:
    record, rows = panel.record, panel.rows
    axes.set_xlim(*score_limits(rows))
    axes.set_ylim(-1.1, 1)
    axes.set_yticks([])
    for number, row in enumerate(rows):
        look, lane = styles[label_of(row)], LANES[number % len(LANES)]
        if row.interval is not None:
            ends = [100 * end for end in row.interval]
            axes.plot(ends, [lane, lane], color=look.colour, linewidth=1)
        axes.add_line(dot(look, [100 * row.mean], [lane]))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, min_n_ticks=2))
    axes.tick_params(labelsize=SMALL, pad=1.5)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    lower = ", lower is better" if record.metrics.direction == "min" else ""
    axes.text(
        (0.08 - MARGINS.left) / (WIDTH - MARGINS.left - MARGINS.right),
        0.36,
        f"{title_of(panel, 44)}\n{words(record.metrics.primary)}{lower}",
        transform=axes.transAxes,
        va="center",
        size=SMALL - 0.5,
        linespacing=1.1,
    )
