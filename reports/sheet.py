"""The page of a figure with many panels: their places, and the foot below them. Sizes are inches.

Every figure is as wide as one column of a paper, and as high as its panels need.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reports.figures import FAINT
from reports.labels import cut_apart

WIDTH = 4.5
SMALL = 6.5
NOTE_CHARACTERS = 88
LEGEND_WIDTHS = {5: 9, 3: 22, 2: 37, 1: 80}
"""Characters of the longest label, by columns."""
LEGEND_LINE, NOTE_LINE = 0.118, 0.125


@dataclass(frozen=True)
class Margins:
    """Space around the axes of every panel, in inches."""

    left: float = 0.56
    right: float = 0.14
    top: float = 0.46
    bottom: float = 0.4


MARGINS = Margins()
HEIGHT = 1.35
"""Inches of the axes, where there are several panels."""


@dataclass(frozen=True)
class Foot:
    """Legend and note below the panels.

    Attributes:
        keys: what to draw beside each label; a label is cut where a line cannot hold it.
        note: how to read the figure, one or more sentences.
        columns: of the legend; None for as many as its longest label leaves room for.
    """

    keys: Mapping[str, Artist]
    note: str
    columns: int | None = None

    @property
    def height(self) -> float:
        """Inches that the foot takes."""
        return self._note_height + LEGEND_LINE * ceil(len(self.keys) / self._columns) + 0.12

    @property
    def _columns(self) -> int:
        if self.columns is not None:
            return self.columns
        longest = max(map(len, self.keys), default=0)
        return next((n for n, width in LEGEND_WIDTHS.items() if longest <= width), 1)

    @property
    def _lines(self) -> list[str]:
        return textwrap.wrap(self.note, NOTE_CHARACTERS)

    @property
    def _note_height(self) -> float:
        return NOTE_LINE * len(self._lines) + 0.06

    def draw(self, figure: Figure) -> None:
        """Write the foot into the space that :func:`sheet` left for it."""
        height = figure.get_figheight()
        note = "\n".join(self._lines)
        left, bottom = 0.08 / WIDTH, 0.05 / height
        figure.text(left, bottom, note, size=SMALL, color=FAINT, linespacing=1.25)
        if self.keys:
            figure.legend(
                list(self.keys.values()),
                cut_apart(list(self.keys), LEGEND_WIDTHS[1]),
                loc="lower center",
                bbox_to_anchor=(0.5, self._note_height / height),
                ncols=self._columns,
                frameon=False,
                fontsize=SMALL,
                handlelength=1.6,
                labelspacing=0.25,
                borderpad=0.1,
                columnspacing=1.2,
            )


def panel_heights(count: int, height: float = HEIGHT) -> list[float]:
    """Return the inches of as many panels' axes; one alone is wide, and higher."""
    return [height] * count if count > 1 else [1.6 * height] * count


def sheet(
    heights: Sequence[float], foot: Foot, columns: int = 2, margins: Margins = MARGINS
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one axes a panel, in reading order, and its foot drawn.

    Args:
        heights: inches of each panel's axes.
        foot: what stands below all of them.
        columns: panels beside each other, at most.
        margins: around each axes.
    """
    columns = min(columns, len(heights))
    rows = [heights[start : start + columns] for start in range(0, len(heights), columns)]
    around = margins.top + margins.bottom
    total = sum(max(row) + around for row in rows) + foot.height
    figure = Figure(figsize=(WIDTH, total))
    FigureCanvasAgg(figure)
    width = WIDTH / columns
    panels, top = [], total
    for row in rows:
        for column, height in enumerate(row):
            box = (
                (column * width + margins.left) / WIDTH,
                (top - margins.top - height) / total,
                (width - margins.left - margins.right) / WIDTH,
                height / total,
            )
            panels.append(figure.add_axes(box))
        top -= max(row) + around
    foot.draw(figure)
    return figure, panels
