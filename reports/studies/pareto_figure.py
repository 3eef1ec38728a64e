"""The figure of score against peak memory, with the front that validation chose."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.figures import FAINT, GIB, INK
from reports.labels import cut
from reports.sheet import Foot, Margins, sheet
from reports.studies import wording
from reports.studies.look import FRONT, limits, score_name
from reports.studies.points import Point
from reports.studies.summary import StudyReport

FEW = 12
"""So many points are all named; of more, those of the front."""
TICKS = 5
"""So many fit below the axis, be they of five digits."""
NEAR = 0.04
"""Points closer than this share of the axis get their numbers on different sides."""


def pareto(report: StudyReport) -> Figure | None:
    """Draw the test score of every point over its training peak; numbers name the settings."""
    points = [point for point in report.points if point.peak_bytes is not None]
    if len(points) < 2:
        return None
    named = points if len(points) <= FEW else list(report.front[:FEW])
    named = sorted(named, key=lambda point: (point.peak_bytes or 0, point.test.mean))
    keys = {
        cut(f"{number}: {point.label}", 76): _dot(point in report.front)
        for number, point in enumerate(named, 1)
    }
    foot = Foot(dict(keys), _note(report), columns=2 if max(map(len, keys), default=0) <= 38 else 1)
    figure, (axes,) = sheet([2.3], foot, 1, Margins(left=0.58, right=0.14, top=0.12, bottom=0.42))
    _draw_points(axes, points, report)
    _draw_front(axes, report)
    _draw_budget(axes, report)
    _draw_numbers(axes, named)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=TICKS - 1))
    axes.set_xlabel("peak memory of a training step (GiB)")
    axes.set_ylabel(score_name(report, "test"))
    return figure


def _dot(on_front: bool, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    colour = FRONT if on_front else FAINT
    return Line2D(
        x,
        y,
        linestyle="none",
        marker="o",
        markersize=4,
        color=colour,
        markerfacecolor=colour if on_front else "white",
        zorder=3,
    )


def _note(report: StudyReport) -> str:
    budget = " Dashed: the budget." if report.study.budget_bytes is not None else ""
    return (
        f"{wording.title(report)}. Filled and joined: the front of peak memory and validation "
        f"score, with 95 % intervals of the test score over seeds. Ring: chosen.{budget}"
    )


def _draw_points(axes: Axes, points: Sequence[Point], report: StudyReport) -> None:
    means = [100 * point.test.mean for point in points]
    ends = [100 * end for point in report.front for end in point.test.interval or ()]
    for point in points:
        x, on_front = (point.peak_bytes or 0) / GIB, point in report.front
        if on_front and point.test.interval:
            interval = [100 * end for end in point.test.interval]
            axes.plot([x, x], interval, color=FRONT, linewidth=0.8, alpha=0.5)
        axes.add_line(_dot(on_front, [x], [100 * point.test.mean]))
    axes.set_ylim(*limits(means, ends))
    axes.margins(x=0.08)


def _draw_front(axes: Axes, report: StudyReport) -> None:
    x = [(point.peak_bytes or 0) / GIB for point in report.front]
    y = [100 * point.test.mean for point in report.front]
    axes.step(x, y, where="post", color=FRONT, linewidth=1, alpha=0.6, zorder=1)
    chosen = report.chosen
    if chosen is not None and chosen.peak_bytes is not None:
        axes.plot(
            chosen.peak_bytes / GIB,
            100 * chosen.test.mean,
            marker="o",
            markersize=9,
            markerfacecolor="none",
            color=INK,
        )


def _draw_budget(axes: Axes, report: StudyReport) -> None:
    if report.study.budget_bytes is not None:
        axes.axvline(report.study.budget_bytes / GIB, color=INK, linewidth=0.8, linestyle="--")


def _draw_numbers(axes: Axes, named: Sequence[Point]) -> None:
    """Write each number above its point, left or, close to a point whose number is left, right."""
    low, high = axes.get_xlim()
    before, left = low, False
    for number, point in enumerate(named, 1):
        x = (point.peak_bytes or 0) / GIB
        left = not (left and x - before < NEAR * (high - low))
        before = x
        axes.annotate(
            str(number),
            xy=(x, 100 * point.test.mean),
            xytext=(-4 if left else 4, 4),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=7,
            color=INK,
        )
