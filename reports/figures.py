"""Two figures of one run: how it learned, and where the memory of one step went.

Figures are made from a Record (and its timeline) alone, without pyplot's global state, each as PNG
and as SVG.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from harness.memory.categories import CATEGORIES
from harness.record import Record
from reports.palette import CATEGORY_COLOURS, method_colour, printable, words

DPI = 150
NO_DATE: Final[dict[str, dict[str, None]]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""Formats, and the metadata that would make the same figure another file every day."""
GIB, MIB = 2**30, 2**20
INK, FAINT = "#222222", "#6b6b6b"
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "metl",
}
BACKGROUND = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85}
BASELINE_STYLES = (":", (0, (4, 1, 1, 1)), (0, (1, 3)), "--")


def file_of(figure: Figure, suffix: str) -> bytes:
    """Return a figure as a file in a format of ``NO_DATE``, the same one every day."""
    file = BytesIO()
    figure.savefig(file, format=suffix, dpi=DPI, metadata=NO_DATE[suffix])
    return file.getvalue()


def learning_curve(record: Record, path: Path) -> tuple[Path, Path]:
    """Draw validation score and training loss over epochs beside the test score and baselines.

    Args:
        record: a run with at least one epoch.
        path: where to write; the suffixes ``.png`` and ``.svg`` are put in place of its own.

    Returns:
        The PNG and the SVG file.

    Raises:
        ValueError: the record has no epoch.
    """
    if not record.history:
        raise ValueError(f"run {record.run_key[:16]} has no epoch to draw")
    with mpl.rc_context(STYLE):
        figure = _new_figure(height=3.9)
        grid = figure.add_gridspec(2, 1, height_ratios=(2, 1))
        scores = figure.add_subplot(grid[0])
        losses = figure.add_subplot(grid[1], sharex=scores)
        _draw_scores(scores, record)
        _draw_losses(losses, record)
        scores.set_title(_title(record))
        return _write(figure, path)


def memory_timeline(
    timeline: Sequence[Mapping[str, Any]], record: Record, path: Path
) -> tuple[Path, Path]:
    """Draw the bytes of one training step by category, event by event.

    Args:
        timeline: samples ``{event, phase, bytes: {category: int}}`` in the order of events, as the
            memory report writes them.
        record: the run that the step belongs to.
        path: where to write; the suffixes ``.png`` and ``.svg`` are put in place of its own.

    Returns:
        The PNG and the SVG file.

    Raises:
        ValueError: the timeline has no sample.
    """
    if not timeline:
        raise ValueError(f"the timeline of run {record.run_key[:16]} has no sample")
    events = np.asarray([sample["event"] for sample in timeline])
    layers = {
        name: np.asarray([sample["bytes"].get(name, 0) for sample in timeline], dtype=float)
        for name in CATEGORIES
        if any(sample["bytes"].get(name) for sample in timeline)
    }
    total = sum(layers.values(), np.zeros(len(events)))
    scale, unit = (GIB, "GiB") if total.max() >= GIB else (MIB, "MiB")
    with mpl.rc_context(STYLE):
        figure = _new_figure(height=3.6)
        axes = figure.add_subplot()
        _draw_layers(axes, events, layers, scale)
        axes.set_xlim(events[0], max(events[-1], events[0] + 1))
        axes.set_ylim(0, 1.28 * total.max() / scale)
        axes.set_xlabel("memory event of one training step (allocation or release)")
        axes.set_ylabel(f"live memory ({unit})")
        axes.set_title(_title(record))
        _mark_phases(axes, events, [sample["phase"] for sample in timeline])
        _mark_peak(axes, events, total, scale, unit)
        _legend_of_layers(figure, layers, int(total.argmax()), scale, unit)
        return _write(figure, path)


def _new_figure(height: float) -> Figure:
    """Return a figure of one column's width, 4.5 in at 8 pt."""
    figure = Figure(figsize=(4.5, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Figure, path: Path) -> tuple[Path, Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    figure.savefig(png, dpi=DPI)
    figure.savefig(svg, metadata=NO_DATE["svg"])
    return png, svg


def _title(record: Record) -> str:
    limited = ", limited" if record.provenance.limited else ""
    name = f"{record.method}@{record.preset}" if record.preset else record.method
    return printable(f"{name} on {record.dataset} ({record.recipe}, seed {record.seed}{limited})")


def _draw_scores(axes: Axes, record: Record) -> None:
    """Draw the primary metric in percent, with labels at the right edge instead of a legend."""
    metrics, colour = record.metrics, method_colour(record.method)
    rows = [row for row in record.history if metrics.primary in row.val]
    epochs = [row.epoch for row in rows]
    values = [100 * row.val[metrics.primary] for row in rows]
    axes.plot(epochs, values, color=colour, marker="o", markersize=3, linewidth=1.5)
    labels = []
    if values:
        best = max(values) if metrics.direction == "max" else min(values)
        at_best = epochs[values.index(best)]
        axes.plot(at_best, best, marker="o", markersize=7, markerfacecolor="none", color=colour)
        labels.append((best, f"best validation {best:.1f}", colour))
    if metrics.primary in metrics.test:
        test = 100 * metrics.test[metrics.primary]
        axes.axhline(test, color=INK, linewidth=1, linestyle="--")
        labels.append((test, f"test {test:.1f}", INK))
    for number, (name, score) in enumerate(sorted(metrics.baselines.items())):
        style = BASELINE_STYLES[number % len(BASELINE_STYLES)]
        axes.axhline(100 * score, color=FAINT, linewidth=1, linestyle=style)
        labels.append((100 * score, f"{words(name)} {100 * score:.1f}", FAINT))
    axes.set_ylabel(f"{words(metrics.primary)} (%)")
    axes.tick_params(labelbottom=False)
    axes.margins(y=0.1)
    _label_right(axes, labels)


def _draw_losses(axes: Axes, record: Record) -> None:
    epochs = [row.epoch for row in record.history]
    losses = [row.loss for row in record.history]
    axes.plot(
        epochs, losses, color=method_colour(record.method), marker="o", markersize=3, linewidth=1.5
    )
    axes.set_ylim(0, 1.1 * max(losses) if max(losses) > 0 else None)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _label_right(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write each label beside its height, moved where two would overlap."""
    low, high = axes.get_ylim()
    ordered = sorted(labels)
    heights = spread_heights([value for value, _, _ in ordered], 0.08 * (high - low), high)
    for height, (_, text, colour) in zip(heights, ordered, strict=True):
        axes.annotate(
            text,
            xy=(1.02, height),
            xycoords=("axes fraction", "data"),
            color=colour,
            va="center",
            annotation_clip=False,
        )


def spread_heights(heights: Sequence[float], gap: float, top: float) -> list[float]:
    """Return rising ``heights`` at least ``gap`` apart, none above ``top``."""
    spread: list[float] = []
    for height in heights:
        spread.append(max(height, spread[-1] + gap) if spread else height)
    for i in reversed(range(len(spread))):
        spread[i] = min(spread[i], top)
        top = spread[i] - gap
    return spread


def _draw_layers(
    axes: Axes, events: np.ndarray, layers: Mapping[str, np.ndarray], scale: int
) -> None:
    bottom = np.zeros(len(events))
    for name, nbytes in layers.items():
        top = bottom + nbytes / scale
        axes.fill_between(
            events, bottom, top, step="post", color=CATEGORY_COLOURS[name], linewidth=0
        )
        bottom = top


def _mark_phases(axes: Axes, events: np.ndarray, phases: Sequence[str]) -> None:
    """Divide the step into its phases and name them above the layers."""
    starts = [0]
    for _, run in groupby(phases):
        starts.append(starts[-1] + len(list(run)))
    edges = [events[min(i, len(events) - 1)] for i in starts]
    for number, (left, right) in enumerate(pairwise(edges)):
        if number:
            axes.axvline(left, color=FAINT, linewidth=0.8, linestyle="--")
        narrow = right - left < 0.15 * (edges[-1] - edges[0])
        axes.annotate(
            words(phases[starts[number]]),
            xy=(right if narrow else (left + right) / 2, 0.99),
            xycoords=("data", "axes fraction"),
            ha="right" if narrow else "center",
            va="top",
            color=INK,
            bbox=BACKGROUND,
        )


def _mark_peak(axes: Axes, events: np.ndarray, total: np.ndarray, scale: int, unit: str) -> None:
    peak = int(total.argmax())
    height = total[peak] / scale
    left_half = events[peak] < (events[0] + events[-1]) / 2
    axes.plot(events[peak], height, marker="v", color=INK, markersize=4, clip_on=False)
    axes.annotate(
        f"peak {height:.4g} {unit}",
        xy=(events[peak], height),
        xytext=(6 if left_half else -6, 5),
        textcoords="offset points",
        ha="left" if left_half else "right",
        weight="bold",
        color=INK,
        bbox=BACKGROUND,
    )


def _legend_of_layers(
    figure: Figure, layers: Mapping[str, np.ndarray], peak: int, scale: int, unit: str
) -> None:
    """Name the categories below the axes, each with its size at the peak."""
    handles = [Patch(color=CATEGORY_COLOURS[name]) for name in layers]
    labels = [f"{words(n)} {nbytes[peak] / scale:.3g} {unit}" for n, nbytes in layers.items()]
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=7,
        title="by category, at the peak",
        title_fontsize=7,
        handlelength=1.2,
        labelspacing=0.3,
    )
    legend.get_title().set_color(FAINT)
