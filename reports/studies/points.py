"""What the seeds of each setting gave, which setting was chosen, and what fits in which memory.

Settings are chosen by their validation score; the test score of the chosen one is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Literal

from reports.comparison import spread
from reports.studies.design import Design, Levels, ScoredRun

Direction = Literal["max", "min"]


@dataclass(frozen=True)
class Score:
    """The mean of a metric over seeds, a fraction.

    Attributes:
        mean: over the seeds.
        interval: a 95 % t-interval of the mean; None for one seed.
    """

    mean: float
    interval: tuple[float, float] | None

    @property
    def half(self) -> float | None:
        """Half the interval's width; None for one seed."""
        return (self.interval[1] - self.interval[0]) / 2 if self.interval else None


@dataclass(frozen=True)
class Point:
    """A setting of the factors and what its runs gave.

    Attributes:
        levels: of the factors.
        label: the same in words.
        seeds: those with a score, in rising order.
        planned: how many runs the study has of it, with and without a score.
        test: the primary metric on the test split.
        validation: likewise on the validation split; None where a run lacks it.
        peak_bytes: the highest training peak over the seeds; None where none was measured.
        trainable: parameters, over the seeds the most; None where not counted.
        seconds: of training, mean over the seeds; None where not measured.
    """

    levels: Levels
    label: str
    seeds: tuple[int, ...]
    planned: int
    test: Score
    validation: Score | None
    peak_bytes: int | None
    trainable: int | None
    seconds: float | None

    @property
    def is_complete(self) -> bool:
        """Whether all its runs have a score."""
        return len(self.seeds) == self.planned


def summarise_points(design: Design) -> tuple[Point, ...]:
    """Return the settings with at least one score, in the order of the design."""
    groups = groupby(design.runs, key=lambda run: run.levels)
    return tuple(_point(design, levels, list(runs)) for levels, runs in groups)


def choosable(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that may be chosen: with a validation score, and complete if any is."""
    judged = [point for point in points if point.validation is not None]
    return tuple(p for p in judged if p.is_complete) or tuple(judged)


def best(points: Sequence[Point], direction: Direction) -> Point | None:
    """Return the choosable point with the best validation mean, at a tie the one in less memory."""
    return min(choosable(points), key=lambda point: _rank(point, direction), default=None)


def ranked(points: Sequence[Point], direction: Direction) -> list[Point]:
    """Return points by their validation mean, best first, those without one last."""
    return sorted(points, key=lambda point: _rank(point, direction))


def within(points: Sequence[Point], budget_bytes: int) -> tuple[Point, ...]:
    """Return the choosable points whose measured peak is at most a budget."""
    return tuple(
        point
        for point in choosable(points)
        if point.peak_bytes is not None and point.peak_bytes <= budget_bytes
    )


def pareto_front(points: Sequence[Point], direction: Direction) -> tuple[Point, ...]:
    """Return the choosable points that no other beats in memory and validation score alike.

    Returns:
        In rising order of memory and of score; of equal points the first.
    """
    measured = [point for point in choosable(points) if point.peak_bytes is not None]
    front: list[Point] = []
    for point in sorted(measured, key=lambda p: (p.peak_bytes or 0, _rank(p, direction))):
        if not front or _merit(point, direction) > _merit(front[-1], direction):
            front.append(point)
    return tuple(front)


def _merit(point: Point, direction: Direction) -> float:
    """Return the validation mean, so that more is better."""
    if point.validation is None:
        return float("-inf")
    return point.validation.mean if direction == "max" else -point.validation.mean


def _rank(point: Point, direction: Direction) -> tuple[float, float]:
    memory = float("inf") if point.peak_bytes is None else point.peak_bytes
    return -_merit(point, direction), memory


def _point(design: Design, levels: Levels, runs: Sequence[ScoredRun]) -> Point:
    validation = [run.validation for run in runs if run.validation is not None]
    records = [run.record for run in runs]
    seconds = [record.time.train_seconds for record in records if record.time]
    peaks = [run.peak_bytes for run in runs if run.peak_bytes is not None]
    return Point(
        levels=levels,
        label=design.label(levels),
        seeds=tuple(run.seed for run in runs),
        planned=design.planned[levels],
        test=_score([run.test for run in runs]),
        validation=_score(validation) if len(validation) == len(runs) else None,
        peak_bytes=max(peaks, default=None),
        trainable=max((r.params.trainable for r in records if r.params), default=None),
        seconds=fmean(seconds) if seconds else None,
    )


def _score(values: Sequence[float]) -> Score:
    return Score(fmean(values), spread(values)[1])
