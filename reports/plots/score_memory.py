"""Test score against training peak memory, with the Pareto front and lines of equal memory."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.comparison import Row
from reports.figures import FAINT, INK
from reports.panels import Panel, log_scale, size_unit
from reports.score_panels import score_figure
from reports.sheet import SMALL

EQUAL = 0.02
"""Inches for the names of the lines of equal memory."""
NOTE = (
    "Bars: 95 % interval of the mean over seeds. Grey steps: the Pareto front, which no run beats "
    "in both. Dotted lines: the same memory as full fine-tuning (as the largest peak, where there "
    "is no such run), a half of it, a quarter ..."
)


def draw(panels: Sequence[Panel]) -> Figure:
    """Return one panel for every ranking of two rows or more."""
    return score_figure(
        panels,
        lambda row: row.peak_bytes,
        "a measured training peak",
        NOTE,
        _place,
        above=EQUAL,
    )


def _place(axes: Axes, rows: Sequence[Row]) -> list[float]:
    peaks = [float(row.peak_bytes or 0) for row in rows]
    scale, unit = size_unit(2 * min(peaks))
    sizes = [peak / scale for peak in peaks]
    log_scale(axes, sizes)
    _draw_equal_memory(axes, rows, sizes)
    axes.set_xlabel(f"training peak ({unit})", labelpad=2)
    return sizes


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
