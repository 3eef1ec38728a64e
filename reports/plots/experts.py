"""Load of every expert as a heat strip, and the router's entropy, over epochs."""

from collections.abc import Sequence
from math import ceil, log

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.errors import UserError
from harness.record import Epoch
from reports.comparison import Row
from reports.figures import FAINT, INK
from reports.labels import cut, label_of
from reports.palette import method_colour
from reports.panels import (
    Panel,
    epoch_axis,
    title_of,
)
from reports.sheet import SMALL, WIDTH, Foot, Margins, sheet

COLOURS = mpl.colormaps["cividis"]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
STRIP, LEAST = 0.07, 0.6
MARGINS = Margins(left=0.66, right=0.12, top=0.44, bottom=0.36)
NOTE = (
    "Left: share of the router's choices that an expert gets; every block is one mixture, every "
    "row in it one expert. Right: mean entropy of the router's probabilities; dashed: all "
    "experts alike. Of several seeds the lowest is drawn: experts of different seeds "
    "are not the same ones."
)


def draw(panels: Sequence[Panel]) -> Figure:
    """Return a strip and a curve for every configuration with experts."""
    drawn = [(panel, row) for panel in panels for row in panel.rows if _epochs(row)]
    if not drawn:
        raise UserError(
            "No finished run has the load of experts by epoch; methods with experts, such as "
            "mp_ismoe, write it."
        )
    highest = ceil(10 * max(share for _, row in drawn for share in _loads(row).flat)) / 10
    keys = {f"{100 * part * highest:g} %": Patch(color=COLOURS(part)) for part in SHARES}
    heights = [max(LEAST, STRIP * len(_loads(row))) for _, row in drawn for _ in range(2)]
    figure, all_axes = sheet(heights, Foot(keys, NOTE), margins=MARGINS)
    for (panel, row), strip, entropy in zip(drawn, all_axes[::2], all_axes[1::2], strict=True):
        _write_name(strip, panel, row, figure.get_figheight())
        _draw_strip(strip, row, highest)
        _draw_entropy(entropy, row)
    return figure


def _epochs(row: Row) -> list[Epoch]:
    """Return the epochs in which the same experts were counted as in the first that has some."""
    counted = [epoch for epoch in row.record.history if epoch.expert_load]
    return [epoch for epoch in counted if _sizes(epoch) == _sizes(counted[0])]


def _sizes(epoch: Epoch) -> list[int]:
    """Return the number of experts of every mixture."""
    return [len(mixture) for mixture in epoch.expert_load or ()]


def _loads(row: Row) -> np.ndarray:
    """Return the shares ``[experts of all mixtures, epochs]``."""
    return np.asarray([np.concatenate(epoch.expert_load or []) for epoch in _epochs(row)]).T


def _draw_strip(axes: Axes, row: Row, highest: float) -> None:
    epochs, loads = _epochs(row), _loads(row)
    edges = np.arange(len(epochs) + 1) + epochs[0].epoch - 0.5, np.arange(len(loads) + 1) - 0.5
    axes.pcolormesh(*edges, loads, cmap=COLOURS, vmin=0, vmax=highest)
    axes.set_ylim(len(loads) - 0.5, -0.5)
    centres, start = [], 0
    for size in _sizes(epochs[0]):
        axes.axhline(start - 0.5, color="white", linewidth=1.5)
        centres.append(start + (size - 1) / 2)
        start += size
    axes.set_yticks(centres, [f"mixture {number}" for number in range(1, len(centres) + 1)])
    axes.tick_params(labelsize=SMALL, pad=2)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    epoch_axis(axes)


def _write_name(axes: Axes, panel: Panel, row: Row, inches: float) -> None:
    """Write above the strip whose experts they are."""
    box = axes.get_position()
    first, *others = title_of(panel, 60).split("\n")
    lines = (f"{label_of(row)}, seed {row.record.seed}, {first}", ", ".join(others))
    axes.text(
        (0.06 - MARGINS.left) / (box.width * WIDTH),
        1 + 0.09 / (box.height * inches),
        "\n".join(cut(line, 86) for line in lines),
        transform=axes.transAxes,
        size=SMALL,
        linespacing=1.15,
        color=INK,
    )


def _draw_entropy(axes: Axes, row: Row) -> None:
    entropy = {e.epoch: e.router_entropy for e in _epochs(row) if e.router_entropy is not None}
    axes.plot(
        list(entropy),
        list(entropy.values()),
        color=method_colour(row.record.method),
        marker="o",
        markersize=2.5,
        linewidth=1.2,
    )
    experts = max(_sizes(_epochs(row)[0]))
    axes.axhline(log(experts), color=FAINT, linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1.15 * log(experts) if experts > 1 else 1)
    axes.set_ylabel("entropy (nat)", labelpad=2, size=SMALL)
    axes.tick_params(labelsize=SMALL, pad=2)
    epoch_axis(axes)
