"""What Records say of the fourteen statements: an effect, an interval and a verdict."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from harness.record import Record
from reports.comparison import is_bundled
from reports.reproduce.contrasts import Claim, Part
from reports.reproduce.examples import ExampleScores
from reports.reproduce.hypotheses import CLAIMS, HOSTS
from reports.reproduce.pairing import AMP, Unit, Units, find_units
from reports.reproduce.selection import host_of, lookup, usable
from reports.reproduce.statistics import (
    LEVEL,
    MIN_SEEDS,
    MIN_TASKS,
    Bootstrap,
    ByExample,
    Values,
    hierarchical_bootstrap,
    seeds_needed,
    within_deviation,
)
from reports.statistics import Examples, holm

Verdict = Literal["supported", "contradicted", "undecided", "no data"]
CONFIDENCE = 0.95
TOST_CONFIDENCE = 0.90
NO_SCORES = ExampleScores()


@dataclass(frozen=True)
class PartVerdict:
    """What is known of one comparison; ratios are ratios, not logarithms.

    Attributes:
        part: the comparison.
        verdict: by its own rule.
        effect: mean over tasks; in points, or a ratio; None without data.
        interval: 95 % of the effect, 90 % for an equivalence.
        tasks: names.
        seeds: fewest of any task.
        examples: test examples that were resampled too, of all tasks; 0 where none were.
        hosts: side networks of the runs.
        units: how many sets of runs.
        p_value: of the decision, two-sided, before Holm's adjustment.
        reason: why it is undecided or has no data, and what it would take.
        stand_ins: data and backbones of the runs; empty at the paper's own.
    """

    part: Part
    verdict: Verdict
    effect: float | None = None
    interval: tuple[float, float] | None = None
    tasks: tuple[str, ...] = ()
    seeds: int = 0
    examples: int = 0
    hosts: tuple[str, ...] = ()
    units: int = 0
    p_value: float = 1.0
    reason: str = ""
    stand_ins: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClaimVerdict:
    """What is known of a statement.

    Attributes:
        claim: the statement.
        verdict: supported where all deciding parts are, contradicted where one is.
        parts: of the same order as the statement's.
        p_value: adjusted for fourteen statements by Holm.
        scale: ``at the paper's scale`` or ``on stand-ins (...)``; empty without data.
        reason: what keeps it from being decided.
    """

    claim: Claim
    verdict: Verdict
    parts: tuple[PartVerdict, ...]
    p_value: float
    scale: str
    reason: str = ""


def decide_all(
    records: Iterable[Record], claims: Sequence[Claim] = CLAIMS, *, output: Path | None = None
) -> list[ClaimVerdict]:
    """Decide every statement.

    Args:
        records: of any status; unfinished and limited runs do not count.
        claims: over all of which Holm adjusts, those without data included.
        output: the folder that the runs' predictions lie in; None resamples no examples.

    Raises:
        UserError: predictions are not those that a run wrote.
    """
    runs, scores = list(usable(records)), ExampleScores(output)
    found = [_decide(claim, runs, scores) for claim in claims]
    with_data = [i for i, own in enumerate(found) if own.verdict != "no data"]
    adjusted = holm([found[i].p_value for i in with_data], len(claims))
    for i, p_value in zip(with_data, adjusted, strict=True):
        found[i] = _adjusted(found[i], p_value)
    return found


def _adjusted(own: ClaimVerdict, p_value: float) -> ClaimVerdict:
    """Take a decision back that does not hold among fourteen."""
    if own.verdict == "undecided" or p_value <= LEVEL:
        return replace(own, p_value=p_value)
    reason = f"{own.verdict} alone, but not among all statements (Holm: p = {p_value:.2g})"
    return replace(own, p_value=p_value, verdict="undecided", reason=reason)


def _decide(claim: Claim, runs: Sequence[Record], scores: ExampleScores) -> ClaimVerdict:
    parts = tuple(decide_part(part, find_units(runs, part), scores) for part in claim.parts)
    deciding = [own for own in parts if not own.part.beside]
    verdicts = {own.verdict for own in deciding}
    against = [own.p_value for own in deciding if own.verdict == "contradicted"]
    verdict: Verdict
    if against:
        verdict, p_value = "contradicted", min(1.0, len(deciding) * min(against))
    elif verdicts == {"supported"}:
        verdict, p_value = "supported", max(own.p_value for own in deciding)
    else:
        verdict, p_value = ("no data" if verdicts == {"no data"} else "undecided"), 1.0
    return ClaimVerdict(claim, verdict, parts, p_value, _scale(deciding))


def decide_part(part: Part, found: Units, scores: ExampleScores = NO_SCORES) -> PartVerdict:
    """Decide one comparison by its own rule.

    Args:
        part: the comparison.
        found: its units.
        scores: of the units' runs by example.
    """
    if not found.units:
        return PartVerdict(part, "no data", reason=_no_data(found.left_out))
    values, examples, seeds = _by_task(part, found.units, scores)
    bootstrap = hierarchical_bootstrap(values, examples=examples)
    confidence = TOST_CONFIDENCE if part.rule == "equivalence" else CONFIDENCE
    verdict, p_value = _by_rule(part, bootstrap)
    reason = _too_little(values, seeds, found)
    if reason:
        verdict = "undecided"
    if verdict == "undecided":
        reason = "; ".join(
            text for text in (reason, _what_it_takes(part, bootstrap, values, seeds)) if text
        )
    low, high = bootstrap.interval(confidence)
    return PartVerdict(
        part=part,
        verdict=verdict,
        effect=_shown(part, bootstrap.effect),
        interval=(_shown(part, low), _shown(part, high)),
        tasks=tuple(sorted(values)),
        seeds=seeds,
        examples=sum(max(map(_size, own)) for own in examples.values()),
        hosts=tuple(sorted({host_of(u.first) for u in found.units} & set(HOSTS))),
        units=len(found.units),
        p_value=p_value,
        reason=reason,
        stand_ins=() if found.paper_scale else _names(found.units),
    )


def _by_task(
    part: Part, units: Sequence[Unit], scores: ExampleScores
) -> tuple[Values, ByExample, int]:
    """Return by task, for each seed and data with its hosts averaged, effects; and the seeds.

    The effects are those of the runs, and those on every example.
    """
    own: dict[str, dict[tuple[str, ...], list[Unit]]] = {}
    for unit in units:
        run = unit.first
        key = (run.dataset, run.recipe, run.backbone, str(run.seed))
        own.setdefault(run.task, {}).setdefault(key, []).append(unit)
    values = {
        task: [fmean(unit.value for unit in hosts) for hosts in held.values()]
        for task, held in own.items()
    }
    examples = {
        task: [scores.effect(part, hosts) for hosts in held.values()] for task, held in own.items()
    }
    seeds = min(len({key[-1] for key in held}) for held in own.values())
    return values, examples, seeds


def _size(examples: Examples | None) -> int:
    return 0 if examples is None else len(examples.scores)


def _by_rule(part: Part, found: Bootstrap) -> tuple[Verdict, float]:
    """Return the verdict of a part's interval, and its p-value."""
    low, high = found.interval(CONFIDENCE)
    if part.rule == "equivalence":
        inner = found.interval(TOST_CONFIDENCE)
        if -part.bound < inner[0] and inner[1] < part.bound:
            return "supported", max(found.p_above(-part.bound), found.p_below(part.bound))
        if high < -part.bound or low > part.bound:
            return "contradicted", 2 * min(found.p_below(-part.bound), found.p_above(part.bound))
        return "undecided", 1.0
    if part.rule == "ratio":
        limit = math.log(part.bound)
        if high <= limit:
            return "supported", 2 * _p_at_most(found, limit)
        return ("contradicted", 2 * found.p_above(limit)) if low > limit else ("undecided", 1.0)
    if low > part.bound:
        return "supported", 2 * found.p_above(part.bound)
    return (
        ("contradicted", 2 * found.p_below(part.bound)) if high < part.bound else ("undecided", 1.0)
    )


def _p_at_most(found: Bootstrap, limit: float) -> float:
    """Return the p-value of "the ratio is above its limit"; a ratio at the limit is within it."""
    return (1 + int((found.draws > limit).sum())) / (1 + len(found.draws))


def _too_little(values: Values, seeds: int, found: Units) -> str:
    """Say why no verdict is allowed, whatever the interval; empty where one is."""
    reasons = []
    if found.precision_differs:
        first, *others = (lookup(r, AMP) for r in (found.units[0].first, *found.units[0].others))
        reasons.append(
            f"no verdict: precision differs ({first} against {', '.join(map(str, others))})"
        )
    if seeds < MIN_SEEDS:
        reasons.append(f"{seeds} of at least {MIN_SEEDS} seeds")
    if len(values) < MIN_TASKS:
        reasons.append("one task only")
    return "; ".join(reasons)


def _what_it_takes(part: Part, found: Bootstrap, values: Values, seeds: int) -> str:
    """Say how many seeds a task would decide an undecided part, from their spread so far."""
    deviation = within_deviation(values)
    if deviation is None:
        return f"needs {MIN_SEEDS} seeds a task first: the spread over seeds is not known"
    needed = seeds_needed(deviation, _distance(part, found.effect), len(values))
    if needed is None:
        return "needs more than 1000 seeds a task: the effect is at its bound"
    if needed <= seeds and len(values) >= MIN_TASKS:
        return "needs more tasks or larger test sets: seeds are not what leaves it open"
    return f"needs {needed} seeds a task"


def _distance(part: Part, effect: float) -> float:
    """Return how far an effect is from the bound of its part."""
    if part.rule == "ratio":
        return abs(effect - math.log(part.bound))
    if part.rule == "equivalence":
        return abs(part.bound - abs(effect))
    return abs(effect - part.bound)


def _no_data(left_out: Mapping[str, int]) -> str:
    if not left_out:
        return "no runs of the first side"
    most = sorted(left_out.items(), key=lambda item: -item[1])
    return "; ".join(f"{count} without a fair partner ({why})" for why, count in most[:2])


def _shown(part: Part, value: float) -> float:
    return math.exp(value) if part.rule == "ratio" else value


def _names(units: Sequence[Unit]) -> tuple[str, ...]:
    """Return data and backbone of every run that the units are about."""
    names = {
        f"{run.dataset}{' (bundled)' if is_bundled(run) else ''} on {run.backbone}"
        for run in (unit.first for unit in units)
    }
    return tuple(sorted(names))


def _scale(parts: Sequence[PartVerdict]) -> str:
    """Say whether the data are the paper's; empty where there are none."""
    known = [own for own in parts if own.units]
    names = sorted({name for own in known for name in own.stand_ins})
    if not names:
        return "at the paper's scale" if known else ""
    partly = "partly " if any(not own.stand_ins for own in known) else ""
    return f"{partly}on stand-ins ({', '.join(names)})"
