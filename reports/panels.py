"""What the plots of many runs share: what a panel holds, one look for a method, scales.

One panel holds what one table ranks together: runs of one task, dataset, recipe and backbone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log
from statistics import fmean
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from harness.errors import UserError
from harness.record import Record
from reports.comparison import Row, is_bundled, rankings
from reports.figures import FAINT, GIB, INK, MIB
from reports.labels import cut, label_of
from reports.notes import setups
from reports.palette import method_colour, printable, words
from reports.sheet import MARGINS, WIDTH

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: Any = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 2)))
WIDE = 10.0
"""Points of a score."""
Curve = Mapping[int, Sequence[float]]
"""Values of the seeds by epoch, in the order of epochs."""


@dataclass(frozen=True)
class Panel:
    """Rows that are ranked together: of one task, dataset, recipe and backbone, given the same.

    Attributes:
        rows: best first.
        setup: in what they differ from other rows of the same task, dataset, recipe and backbone.
    """

    rows: tuple[Row, ...]
    setup: str

    @property
    def record(self) -> Record:
        """The first row's first run, for the names."""
        return self.rows[0].record


@dataclass(frozen=True)
class Look:
    """How a configuration is drawn; the colour is the method's everywhere."""

    colour: str
    marker: str
    filled: bool
    line: Any  # what matplotlib takes as a linestyle


def panels_of(records: Iterable[Record]) -> list[Panel]:
    """Return a panel for every ranking of finished, unlimited runs.

    Raises:
        UserError: there is no such run.
    """
    known = list(records)
    found = rankings(known)
    if not found:
        raise UserError(
            f"There is no finished run to draw: of {len(known)} records every one is unfinished "
            "or limited."
        )
    of_row = setups([row for rows in found for row in rows])
    return [Panel(rows, of_row[rows[0].record.run_key]) for rows in found]


def comparable(
    panels: Iterable[Panel], needed: str, value: Callable[[Row], float | None]
) -> list[Panel]:
    """Return the panels in which two rows or more have a value, with these rows alone.

    Args:
        panels: any.
        needed: what the value is, in words.
        value: of a row; None where it has none.

    Raises:
        UserError: there is no such panel.
    """
    measured = [
        replace(panel, rows=tuple(row for row in panel.rows if value(row) is not None))
        for panel in panels
    ]
    found = [panel for panel in measured if len(panel.rows) > 1]
    if not found:
        raise UserError(
            f"Nothing to compare: no two methods, or settings of one, with {needed} can be ranked "
            "together. `harness compare` runs several methods on one task."
        )
    return found


def title_of(panel: Panel, width: int) -> str:
    """Return a panel's title: task and dataset, then recipe and backbone, then what else differs.

    Args:
        panel: any.
        width: characters of a line; longer ones are cut.
    """
    record = panel.record
    bundled = " (bundled)" if is_bundled(record) else ""
    first = record.dataset if record.dataset == record.task else f"{record.task}: {record.dataset}"
    lines = (first, f"{record.recipe}, {record.backbone}{bundled}", panel.setup)
    return "\n".join(cut(printable(line), width) for line in lines if line)


def title_height(found: Iterable[Panel]) -> float:
    """Return the inches that the highest of the panels' titles takes."""
    return 0.22 + 0.12 * (2 + any(panel.setup for panel in found))


def set_title(axes: Axes, panel: Panel, width: int = 42, left: float = MARGINS.left) -> None:
    """Write a panel's title from its cell's left edge, see :func:`title_of`.

    Args:
        axes: the panel's.
        panel: what is drawn there.
        width: characters of a line; longer ones are cut.
        left: inches from the cell's edge to the axes.
    """
    inches = axes.get_position().width * WIDTH
    title = title_of(panel, width)
    axes.set_title(title, x=(0.06 - left) / inches, fontsize=7, linespacing=1.15, color=INK)
    axes.tick_params(labelsize=7, pad=2)


def looks(rows: Iterable[Row]) -> dict[str, Look]:
    """Return the look of every label: the method's colour, and marks that part its variants."""
    methods: dict[str, list[str]] = {}
    for label, method in sorted({(label_of(row), row.record.method) for row in rows}):
        methods.setdefault(method, []).append(label)
    return {
        label: Look(
            colour=method_colour(method),
            marker=MARKERS[number % len(MARKERS)],
            filled=number // len(MARKERS) % 2 == 0,
            line=LINES[number % len(LINES)],
        )
        for method, labels in methods.items()
        for number, label in enumerate(labels)
    }


def repeated(drawn: Iterable[Sequence[Row]], styles: Mapping[str, Look], lines: bool) -> str:
    """Return the sentence that a note ends with where rows of one panel look alike, else nothing.

    Args:
        drawn: the rows of every panel.
        styles: the look of every label.
        lines: whether lines are drawn, not dots.
    """
    alike = 0
    for rows in drawn:
        found = [styles[label_of(row)] for row in rows]
        seen = [(look.colour, look.line if lines else (look.marker, look.filled)) for look in found]
        alike += sum(seen.count(own) > 1 for own in seen)
    if not alike:
        return ""
    kinds, number = ("Lines", len(LINES)) if lines else ("Marks", 2 * len(MARKERS))
    return f" {kinds} repeat after {number} settings of a method: {alike} rows share theirs."


def dot_keys(styles: Mapping[str, Look]) -> dict[str, Artist]:
    """Return the legend of dots."""
    return {label: dot(look) for label, look in styles.items()}


def line_keys(styles: Mapping[str, Look]) -> dict[str, Artist]:
    """Return the legend of lines."""
    return {
        label: Line2D([], [], color=look.colour, linestyle=look.line, linewidth=1.4)
        for label, look in styles.items()
    }


def dot(look: Look, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    """Return a dot of a method's look, with an edge that shows it on white."""
    return Line2D(
        x,
        y,
        linestyle="none",
        color=look.colour,
        marker=look.marker,
        markersize=4.5,
        markerfacecolor=look.colour if look.filled else "white",
        markeredgecolor=INK if look.filled else look.colour,
        markeredgewidth=0.4 if look.filled else 1,
        zorder=3,
    )


def draw_band(axes: Axes, curve: Curve, look: Look) -> None:
    """Draw the mean over seeds by epoch as a line, and their range as a band."""
    epochs, of_epochs = list(curve), list(curve.values())
    if any(len(values) > 1 for values in of_epochs):
        low, high = [min(values) for values in of_epochs], [max(values) for values in of_epochs]
        axes.fill_between(epochs, low, high, color=look.colour, alpha=0.2, linewidth=0)
    axes.plot(
        epochs,
        [fmean(values) for values in of_epochs],
        color=look.colour,
        linestyle=look.line,
        linewidth=1.2,
        marker=look.marker if len(epochs) == 1 else None,
        markersize=4,
    )
    epoch_axis(axes)


def epoch_axis(axes: Axes) -> None:
    """Name the x axis and put its ticks at whole epochs."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch", labelpad=2)


def score_label(record: Record) -> str:
    """Return the axis label of the primary metric."""
    lower = ", lower is better" if record.metrics.direction == "min" else ""
    return f"{words(record.metrics.primary)} (%){lower}"


def draw_interval(axes: Axes, row: Row, x: float, colour: str) -> None:
    """Draw the 95 % interval of a row's mean score, in percent, where it has one."""
    if row.interval is not None:
        low, high = (100 * end for end in row.interval)
        axes.plot([x, x], [low, high], color=colour, linewidth=1, zorder=2)


def score_limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return limits in percent that hold all means, and their intervals unless these are wide.

    The interval of two seeds may be wider than everything else: it may reach beyond the means by as
    much as they span, or by ``WIDE``, and is cut off by the panel's edge behind that.
    """
    means = [100 * row.mean for row in rows]
    ends = [100 * end for row in rows for end in row.interval or ()]
    beyond = max(max(means) - min(means), WIDE)
    low = max(min([*means, *ends]), min(means) - beyond)
    high = min(max([*means, *ends]), max(means) + beyond)
    margin = max(0.1 * (high - low), 0.5)
    return low - margin, high + margin


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other one beats in both, by rising cost.

    Args:
        points: (cost, score); lower costs and higher scores are better.
    """
    best: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or score > best[-1][1]:
            best.append((cost, score))
    return best


def draw_front(axes: Axes, rows: Sequence[Row], costs: Sequence[float], right: float) -> None:
    """Draw the Pareto front of rows as steps up to ``right``."""
    sign = -1 if rows[0].record.metrics.direction == "min" else 1
    scores = [100 * sign * row.mean for row in rows]
    best = front(list(zip(costs, scores, strict=True)))
    x = [cost for cost, _ in best] + [right]
    y = [sign * score for _, score in best]
    axes.step(x, [*y, y[-1]], where="post", color=FAINT, linewidth=1, alpha=0.7, zorder=1)


def size_unit(nbytes: float) -> tuple[int, str]:
    """Return the bytes and the name of the unit in which ``nbytes`` is read best."""
    return (GIB, "GiB") if nbytes >= GIB else (MIB, "MiB")


def log_scale(axes: Axes, values: Sequence[float], base: int = 2) -> None:
    """Make the x axis logarithmic around positive ``values``, with plain numbers at its ticks."""
    low, high = log_limits(values, base)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _set_ticks(axes.xaxis, log_ticks(low, high, base))


def log_limits(values: Sequence[float], base: int) -> tuple[float, float]:
    """Return limits around positive ``values`` that are at least twice ``base`` apart."""
    low, high = min(values) / 1.2, max(values) * 1.2
    widen = max(1.0, (2 * base / (high / low)) ** 0.5)
    return low / widen, high * widen


def log_ticks(low: float, high: float, base: int) -> list[float]:
    """Return at most six powers of ``base``; of ten, also their multiples where few would be."""
    powers = [float(base) ** n for n in range(floor(log(low, base)), ceil(log(high, base)) + 1)]
    for factors in ((1,), (1, 3), (1, 2, 5)) if base == 10 else ((1,),):
        ticks = [f * power for power in powers for f in factors if low <= f * power <= high]
        if len(ticks) > 2:
            break
    return ticks[:: max(1, ceil(len(ticks) / 6))]


def _set_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
