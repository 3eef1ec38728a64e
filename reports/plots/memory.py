"""Bytes at the training peak by category, one stacked bar for every method."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.errors import UserError
from harness.memory.categories import CATEGORIES
from harness.record import Memory
from reports.figures import INK
from reports.labels import cut_apart, label_of
from reports.palette import CATEGORY_COLOURS, words
from reports.panels import (
    Panel,
    set_title,
    size_unit,
    title_height,
)
from reports.sheet import SMALL, Foot, Margins, sheet

BAR = 0.155
BAR_SHARE = 0.74
LABEL, CHARACTER = 46, 0.0525
"""Characters of the longest label, and the inches of one."""
NOTE = (
    "At the moment of the highest total, of the seed with the highest. Kernel workspace is what "
    "the allocator holds beyond the tensors that the tracker knows."
)
Bar = tuple[str, Memory]


def draw(panels: Sequence[Panel]) -> Figure:
    """Return one panel for every ranking."""
    drawn = [(panel, bars) for panel in panels if (bars := _bars(panel))]
    if not drawn:
        raise UserError("No finished run has measured memory; memory.profile=false leaves it out.")
    memories = [memory for _, bars in drawn for _, memory in bars]
    shown = [n for n in CATEGORIES if any(memory.at_peak_bytes.get(n) for memory in memories)]
    keys = {words(name): Patch(color=CATEGORY_COLOURS[name]) for name in shown}
    heights = [BAR * len(bars) + 0.08 for _, bars in drawn]
    longest = max(len(label) for _, bars in drawn for label, _ in bars)
    left = 0.12 + CHARACTER * min(longest, LABEL)
    margins = Margins(left=left, right=0.5, top=title_height(panel for panel, _ in drawn))
    figure, all_axes = sheet(heights, Foot(keys, NOTE), columns=1, margins=margins)
    for axes, (panel, bars) in zip(all_axes, drawn, strict=True):
        _draw_panel(axes, bars)
        set_title(axes, panel, width=80, left=left)
        _name_bars(axes, bars)
    return figure


def _bars(panel: Panel) -> list[Bar]:
    """Return label and memory of every row that has some, the smallest peak first."""
    bars = []
    for row in panel.rows:
        memories = [run.memory for run in row.runs if run.memory]
        if memories:
            bars.append((label_of(row), max(memories, key=lambda memory: memory.train_peak_bytes)))
    return sorted(bars, key=lambda bar: bar[1].train_peak_bytes)


def _draw_panel(axes: Axes, bars: Sequence[Bar]) -> None:
    scale, unit = size_unit(bars[-1][1].train_peak_bytes)
    axes.add_collection(_boxes(bars, scale))
    totals = [memory.train_peak_bytes / scale for _, memory in bars]
    axes.set_xlim(0, totals[-1])
    for y, total in enumerate(totals):
        axes.annotate(
            f"{total:.3g}" if total < 1000 else f"{total:.0f}",
            xy=(total, y),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            size=SMALL,
            color=INK,
            annotation_clip=False,
        )
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"live memory at the peak ({unit})", labelpad=2)


def _name_bars(axes: Axes, bars: Sequence[Bar]) -> None:
    axes.set_yticks(range(len(bars)), cut_apart([label for label, _ in bars], LABEL))
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=SMALL, labelcolor=INK)


def _boxes(bars: Sequence[Bar], scale: int) -> PolyCollection:
    """Return a box for every category of every bar, side by side."""
    corners, colours = [], []
    for y, (_, memory) in enumerate(bars):
        low, high, left = y - BAR_SHARE / 2, y + BAR_SHARE / 2, 0.0
        for name in CATEGORIES:
            right = left + memory.at_peak_bytes.get(name, 0) / scale
            if right > left:
                corners.append([(left, low), (left, high), (right, high), (right, low)])
                colours.append(CATEGORY_COLOURS[name])
            left = right
    return PolyCollection(corners, facecolors=colours, linewidths=0)
