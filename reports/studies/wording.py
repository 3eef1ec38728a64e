"""The sentences of a study's report: what was found, what it rests on, and what is missing."""

from collections.abc import Iterator, Sequence

from reports.comparison import is_bundled
from reports.palette import printable, words
from reports.studies.fitting import Scope
from reports.studies.points import Point, Score, choosable, within
from reports.studies.summary import StudyReport
from reports.tables import gib, percent

SHOWN_COMBINATIONS = 6


def title(report: StudyReport) -> str:
    """Return the study's name and what its runs share."""
    study = report.study
    bundled = any(is_bundled(run.record) for run in report.design.runs)
    data = f"{study.dataset} (bundled)" if bundled else study.dataset
    names = f"{study.name}: {study.method} on {study.task}"
    return printable(f"{names}; {data}, recipe {study.recipe}, backbone {study.backbone}")


def findings(report: StudyReport) -> list[str]:
    """Return what the study found: the chosen setting, and what fits in which memory."""
    if not report.points:
        return ["No run of this study has a score, so there is nothing to compare."]
    budget = report.study.budget_bytes
    if budget is not None:
        return [_best_within(report, budget)]
    if report.chosen is None:
        return ["No setting can be chosen: no run has a validation score."]
    everywhere = _found("best by validation", report.chosen)
    return [everywhere, *(_found(f"within {gib(_peak(p))} GiB", p) for p in report.front)]


def notes(report: StudyReport) -> list[str]:
    """Return how the figures were made, and what a reader must know of them."""
    return [_counts(report), *_cautions(report), *_factors(report), *_scopes(report)]


def score(value: Score | None) -> str:
    """Return a score in percent, with half its interval where there is one."""
    if value is None:
        return ""
    half = "" if value.half is None else f" ± {percent(value.half)}"
    return f"{percent(value.mean)}{half}"


def seeds_of(point: Point) -> str:
    """Return how many seeds a point has, and of how many where some have no score."""
    return str(point.planned) if point.is_complete else f"{len(point.seeds)} of {point.planned}"


def joined(items: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def _best_within(report: StudyReport, budget: int) -> str:
    if report.chosen is not None:
        return _found(f"within {gib(budget)} GiB", report.chosen)
    if within(report.points, budget):
        return f"within {gib(budget)} GiB: no setting has a validation score to be chosen by"
    return f"within {gib(budget)} GiB: no setting with a score has a measured peak that small"


def _found(where: str, point: Point) -> str:
    """Return the sentence of a chosen setting, with its test score."""
    seeds = "one seed" if len(point.seeds) == 1 else f"{len(point.seeds)} seeds"
    peak = "" if point.peak_bytes is None else f", peak {gib(point.peak_bytes)} GiB"
    validation = f", validation {score(point.validation)} %" if point.validation else ""
    return f"{where}: {point.label}, score {score(point.test)} % ({seeds}){validation}{peak}"


def _peak(point: Point) -> int:
    return point.peak_bytes or 0


def _counts(report: StudyReport) -> str:
    counts = ", ".join(f"{number} {words(name)}" for name, number in report.counts.items())
    cells = sum(report.counts.values())
    settings = len(report.design.planned)
    return f"{cells} runs of {settings} settings: {counts}."


def _cautions(report: StudyReport) -> Iterator[str]:
    records = [run.record for run in report.design.runs]
    if not records:
        return
    yield (
        "Settings are chosen by their mean validation score; score means the test split. "
        "± is half a 95 % t-interval over the seeds, and every interval holds for itself alone."
    )
    limited = sum(record.provenance.limited for record in records)
    if limited:
        yield f"{limited} runs saw a limited part of the data: their scores rank nothing."
    may_choose = choosable(report.points)
    if any(not point.is_complete for point in may_choose):
        yield "No setting has a score for all its seeds: those that have some were compared."
    elif len(may_choose) < len(report.points):
        left = len(report.points) - len(may_choose)
        yield f"{left} settings without all scores of their seeds were not chosen from."
    sources = sorted({r.memory.source for r in records if r.memory})
    if len(sources) > 1:
        yield f"Peaks are not of one kind: some are {joined(sources)}."
    unmeasured = sum(record.memory is None for record in records)
    if unmeasured:
        yield f"{unmeasured} runs have no measured memory."
    if report.fanova_missing:
        yield f"{report.fanova_missing}."


def _factors(report: StudyReport) -> Iterator[str]:
    if report.score is None:
        return
    varied = {effect.axis: effect for effect in report.score.analysis.effects}
    for axis, factor in enumerate(report.design.factors):
        if axis not in varied:
            yield f"{factor.label} has no two values among the scored runs: it has no effect here."
        elif varied[axis].scope.points < len(report.points):
            own = varied[axis].scope.points
            yield (
                f"{factor.label} does not apply everywhere: it is analysed among the {own} of "
                f"{len(report.points)} settings that have it."
            )


def _scopes(report: StudyReport) -> Iterator[str]:
    if report.score is None:
        return
    for scope in report.score.analysis.scopes:
        names = joined([report.design.factors[axis].label for axis in scope.axes])
        where = f"Among the {scope.points} settings with {names}"
        yield f"{where}, {_balance(scope, report)} {_error(scope)}"
        if scope.left_out:
            pairs = ", ".join(map(report.term, scope.left_out))
            yield (
                f"{where}, too few combinations have a scored run to tell these interactions "
                f"apart, so the model is without them: {pairs}."
            )
        if scope.confounded:
            factors = joined([report.design.factors[axis].label for axis in scope.confounded])
            yield f"{where}, the effect of {factors} cannot be told from those of other factors."


def _balance(scope: Scope, report: StudyReport) -> str:
    if scope.balanced:
        return f"the design is balanced: all {scope.combinations} combinations have the same seeds."
    if not scope.missing:
        head = "the design is not balanced: combinations differ in their runs"
    else:
        shown = [report.design.label(levels) for levels in scope.missing[:SHOWN_COMBINATIONS]]
        more = scope.missing_count - len(shown)
        listed = "; ".join([*shown, *([f"and {more} more"] if more else [])])
        head = (
            f"the design is not balanced: {scope.missing_count} of {scope.combinations} "
            f"combinations have no scored run ({listed})"
        )
    return f"{head}. Effects are least-squares estimates, and shares need not sum to 100 %."


def _error(scope: Scope) -> str:
    freedom = f"{scope.error.freedom} degrees of freedom"
    match scope.error_source:
        case "seeds":
            return f"Intervals of effects rest on the spread between seeds ({freedom})."
        case "residual":
            return (
                "Intervals of effects rest on what the model leaves: interactions that are not in "
                f"it, such as those of three factors, and noise ({freedom})."
            )
        case "two-way interactions":
            return (
                f"Intervals of effects rest on the two-way interactions ({freedom}), as one seed a "
                "setting leaves nothing else; the interactions themselves have none."
            )
        case "none":
            return "Effects have no interval: nothing is left to estimate an error from."
