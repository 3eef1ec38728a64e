"""A study in figures: points, the chosen one, effects of the factors, and what fits in memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.record import Record
from harness.study import Study
from reports.studies import importances
from reports.studies.design import Design, ScoredRun, read_design
from reports.studies.effects import Analysis, analyse
from reports.studies.fitting import Observation
from reports.studies.points import Direction, Point, best, pareto_front, summarise_points, within


@dataclass(frozen=True)
class Outcome:
    """How the factors move one outcome.

    Attributes:
        analysis: its effects, interactions and shares of variance.
        fanova: the importance of each factor; None where scikit-learn is not installed.
    """

    analysis: Analysis
    fanova: tuple[float | None, ...] | None


@dataclass(frozen=True)
class Shares:
    """What a term explains of the variance; None where that was not estimated.

    Attributes:
        squares: of the sum of squares.
        fanova: of a random forest's variance, for single factors.
    """

    squares: float | None
    fanova: float | None


@dataclass(frozen=True)
class StudyReport:
    """What a study found, made from its document and Records alone.

    Attributes:
        study: its document.
        design: factors, scored runs, and cells without a score.
        primary: the metric; None where no run has a score.
        direction: of the metric.
        points: settings with a score, in the order of the design.
        chosen: the one with the best validation score, within the budget where there is one.
        front: the points that no other beats in peak memory and validation score alike.
        score: of the primary metric on the test split; None without a score.
        memory: of the training peak in bytes; None where it was not measured.
        fanova_missing: why there are no fANOVA importances, where there are none.
    """

    study: Study
    design: Design
    primary: str | None
    direction: Direction
    points: tuple[Point, ...]
    chosen: Point | None
    front: tuple[Point, ...]
    score: Outcome | None
    memory: Outcome | None
    fanova_missing: str | None

    @property
    def counts(self) -> dict[str, int]:
        """How many cells ended how; those with a score are ``done``."""
        ended = Counter(cell.status for cell in self.design.unscored)
        return {"done": len(self.design.runs), **dict(sorted(ended.items()))}

    def term(self, axes: Sequence[int]) -> str:
        """Return the name of a factor or of an interaction: ``bits × experts``."""
        return " × ".join(self.design.factors[axis].label for axis in axes)

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The outcomes that were measured, by name."""
        known = {"score": self.score, "peak memory": self.memory}
        return {name: outcome for name, outcome in known.items() if outcome is not None}

    def shares(self, outcome: Outcome) -> dict[str, Shares]:
        """Return the shares of variance that are known, by term, and what the largest model left.

        The remainder is what main effects and interactions leave between settings.
        """
        analysis = outcome.analysis
        fanova = outcome.fanova or (None,) * len(self.design.factors)
        shares = {self.term([e.axis]): Shares(e.share, fanova[e.axis]) for e in analysis.effects}
        for pair in analysis.interactions:
            shares[self.term(pair.axes)] = Shares(pair.share, None)
        for scope in analysis.scopes[:1]:
            shares["remainder"] = Shares(scope.higher_order_share, None)
            shares["seeds"] = Shares(scope.seeds_share, None)
        return {name: own for name, own in shares.items() if own != Shares(None, None)}


def summarise(study: Study, records: Iterable[Record]) -> StudyReport:
    """Summarise a study.

    Args:
        study: its document.
        records: of its runs, such as a whole ``RecordStore``; those of other runs are passed over.
    """
    design = read_design(study, records)
    points = summarise_points(design)
    metrics = design.runs[0].record.metrics if design.runs else None
    direction: Direction = metrics.direction if metrics else "max"
    fitting = points if study.budget_bytes is None else within(points, study.budget_bytes)
    return StudyReport(
        study=study,
        design=design,
        primary=metrics.primary if metrics else None,
        direction=direction,
        points=points,
        chosen=best(fitting, direction),
        front=pareto_front(points, direction),
        score=_outcome(design, lambda run: run.test),
        memory=_outcome(design, lambda run: run.peak_bytes),
        fanova_missing=importances.unavailable(),
    )


def _outcome(design: Design, value: Callable[[ScoredRun], float | None]) -> Outcome | None:
    observations = [
        Observation(run.levels, run.seed, found)
        for run in design.runs
        if (found := value(run)) is not None
    ]
    if not observations:
        return None
    sizes = [len(factor.values) for factor in design.factors]
    return Outcome(analyse(observations, sizes), _fanova(observations, len(sizes)))


def _fanova(observations: Sequence[Observation], factors: int) -> tuple[float | None, ...] | None:
    if importances.unavailable():
        return None
    return tuple(importances.fanova(observations, factors))
