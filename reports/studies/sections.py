"""What a study's report shows in tables, as plain texts that each of its forms writes."""

from collections.abc import Iterator
from dataclasses import dataclass

from reports.palette import words
from reports.studies import wording
from reports.studies.effects import Interaction, MainEffect
from reports.studies.model import Estimate
from reports.studies.points import Point, ranked
from reports.studies.summary import Shares, StudyReport
from reports.tables import gib, percent

POINT_HEAD = ("validation (%)", "test (%)", "seeds", "peak (GiB)", "trainable", "train (s)")


@dataclass(frozen=True)
class Section:
    """A table of plain texts; the first ``left`` columns are aligned to the left."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


def sections(report: StudyReport, interactions: bool = True) -> list[Section]:
    """Return points, main effects, interactions, shares of variance and runs without a score.

    Args:
        report: of any study; what it lacks is left out.
        interactions: show those of every two factors.
    """
    found = [
        _points(report),
        *_effects(report),
        *(_interactions(report) if interactions else ()),
        *_shares(report),
        *_unscored(report),
    ]
    return [section for section in found if section.rows]


def _points(report: StudyReport) -> Section:
    factors = tuple(factor.label for factor in report.design.factors)
    rows = [_point(point, report) for point in ranked(report.points, report.direction)]
    title = "Settings, best validation score first (* chosen)"
    return Section(title, ("", *factors, *POINT_HEAD), tuple(rows), left=1 + len(factors))


def _point(point: Point, report: StudyReport) -> tuple[str, ...]:
    levels = zip(report.design.factors, point.levels, strict=True)
    return (
        "*" if point == report.chosen else "",
        *("" if level is None else factor.texts[level] for factor, level in levels),
        wording.score(point.validation).replace(" ", ""),
        wording.score(point.test).replace(" ", ""),
        wording.seeds_of(point),
        "" if point.peak_bytes is None else gib(point.peak_bytes),
        "" if point.trainable is None else f"{point.trainable:,}",
        "" if point.seconds is None else f"{point.seconds:.1f}",
    )


def _effects(report: StudyReport) -> Iterator[Section]:
    if report.score is not None:
        rows = [row for e in report.score.analysis.effects for row in _effect(e, report)]
        head = ("factor", "level", "mean score (%)", "from the mean (points)", "95 % interval")
        yield Section("Main effects on the test score", head, tuple(rows), left=2)


def _effect(effect: MainEffect, report: StudyReport) -> Iterator[tuple[str, ...]]:
    factor = report.design.factors[effect.axis]
    for n, (level, mean) in enumerate(zip(effect.levels, effect.means, strict=True)):
        estimate = effect.effects[n] if effect.effects else None
        shown = (percent(mean), points(estimate), _interval(estimate))
        yield (factor.label, factor.texts[level], *shown)


def _interactions(report: StudyReport) -> Iterator[Section]:
    """Show cell means and, below each, the contrast with its interval."""
    if report.score is None:
        return
    for pair in report.score.analysis.interactions:
        first, second = (report.design.factors[axis] for axis in pair.axes)
        head = (f"{first.label} \\ {second.label}", *(second.texts[c] for c in pair.columns))
        rows = [
            (first.texts[level], *(_cell(pair, i, j) for j in range(len(pair.columns))))
            for i, level in enumerate(pair.rows)
        ]
        title = f"{first.label} × {second.label}: mean score (%); interaction contrast (points)"
        yield Section(title, head, tuple(rows))


def _cell(pair: Interaction, row: int, column: int) -> str:
    mean = pair.means[row][column]
    if mean is None:
        return "no run"
    if pair.contrasts is None:
        return percent(mean)
    contrast = pair.contrasts[row][column]
    interval = f" ({_interval(contrast)})" if contrast.low is not None else ""
    return f"{percent(mean)}; {points(contrast)}{interval}"


def _shares(report: StudyReport) -> Iterator[Section]:
    shares = {name: report.shares(outcome) for name, outcome in report.outcomes.items()}
    terms = list(dict.fromkeys(term for own in shares.values() for term in own))
    kinds = ("squares",) if report.fanova_missing else ("squares", "fANOVA")
    head = ("term", *(f"{name} ({kind}, %)" for name in shares for kind in kinds))
    rows = []
    for term in terms:
        known = [own.get(term, Shares(None, None)) for own in shares.values()]
        cells = [cell for own in known for cell in (own.squares, own.fanova)[: len(kinds)]]
        rows.append((term, *map(_share, cells)))
    yield Section("Shares of variance", head, tuple(rows))


def _unscored(report: StudyReport) -> Iterator[Section]:
    rows = [
        (report.design.label(cell.levels), str(cell.seed), words(cell.status), cell.reason)
        for cell in report.design.unscored
    ]
    yield Section("Runs without a score", ("setting", "seed", "status", "reason"), tuple(rows), 4)


def points(estimate: Estimate | None) -> str:
    """Return an effect on a score in percentage points."""
    return "" if estimate is None else f"{100 * estimate.value:+.2f}"


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{100 * estimate.low:+.2f}..{100 * estimate.high:+.2f}"


def _share(share: float | None) -> str:
    return "" if share is None else percent(share)
