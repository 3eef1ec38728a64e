"""Runs that are fair to compare, matched into the units of a statement: task, seed and host."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.flat import flatten
from harness.record import Record
from reports.reproduce.contrasts import Part
from reports.reproduce.places import is_paper_run
from reports.reproduce.selection import (
    MIXTURE,
    Selector,
    host_of,
    lookup,
    settings_text,
)

AMP = "train.amp"
_FIELDS = ("task", "dataset", "recipe", "backbone", "seed")
_SETTINGS = ("train.batch_size", "train.epochs", AMP, "backbone.quantize", "task.config")
_OF_PLACE = ("train.grad_accum", "train.grad_checkpoint", "train.optimizer", "processor name")
_OF_MEASURE: Mapping[str, tuple[str, ...]] = {
    "score": (),
    "forgetting": (),
    "weight bytes": (),
    "train peak": _OF_PLACE,
    "inference peak": ("train.eval_batch_size", "processor name"),
    "latency": ("train.eval_batch_size", "train.threads", "processor name"),
}
_HOST_FIELDS = tuple(f"method.config.{name}" for name in ("reduction", "width", "layers", "join"))
_RSUM_RECALLS = 6  # which Rsum sums: three ranks in two directions
_WEIGHTS = ("frozen_weights", "quantized_weights", "quantization_metadata")
_SAME_PARAMETERS = 0.02
_SAME_ACTIVE = 0.10  # the router is counted among the experts
_SAME_PEAK = 0.02


@dataclass(frozen=True)
class Unit:
    """One matched set of runs.

    Attributes:
        first: the run that the statement is about.
        others: one for each other term.
        value: the contrast, in points or as a logarithm of a ratio.
    """

    first: Record
    others: tuple[Record, ...]
    value: float


@dataclass(frozen=True)
class Units:
    """The units of one part of a statement.

    Attributes:
        units: all of them at the paper's scale, or all on stand-ins.
        paper_scale: which of the two.
        precision_differs: whether fair units are missing and these differ in ``train.amp``.
        left_out: why runs found no partner: the fields that differ, and how many runs.
    """

    units: tuple[Unit, ...]
    paper_scale: bool
    precision_differs: bool
    left_out: Mapping[str, int]


def find_units(records: Sequence[Record], part: Part) -> Units:
    """Match the runs of a part.

    Args:
        records: finished runs on whole data.
        part: the comparison.
    """
    own = [r for r in records if not part.tasks or r.task in part.tasks]
    firsts = [r for r in own if part.terms[0].runs.takes(r)]
    fair = _one_setting(_units(firsts, own, part, frozenset()))
    mixed = [] if fair else _one_setting(_units(firsts, own, part, frozenset({AMP})))
    chosen = fair or mixed
    at_scale = [unit for unit in chosen if _is_paper_unit(unit)]
    return Units(
        units=tuple(at_scale or chosen),
        paper_scale=bool(at_scale),
        precision_differs=bool(mixed),
        left_out={} if chosen else _left_out(firsts, own, part),
    )


def _units(
    firsts: Sequence[Record], records: Sequence[Record], part: Part, ignored: frozenset[str]
) -> Iterator[Unit]:
    others = part.terms[1:]
    fields = fair_fields(part) - ignored
    beside: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        beside.setdefault(_place(record), []).append(record)
    for first in firsts:
        rivals = beside[_place(first)]
        partners = [_partner(rivals, first, term.runs, part, fields) for term in others]
        found = tuple(partner for partner in partners if partner is not None)
        if len(found) < len(others):
            continue
        value = _contrast(part, (first, *found))
        if value is not None:
            yield Unit(first, found, value)


def fair_fields(part: Part) -> frozenset[str]:
    """Return what must be equal between the runs of a unit, but for what the part contrasts."""
    contrasted = frozenset[str]().union(*(term.runs.fields for term in part.terms))
    equal = {*_FIELDS, *_SETTINGS, *_OF_MEASURE[part.measure], "data", "weights"}
    return frozenset(equal) - contrasted


def _place(record: Record) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in _FIELDS)


def _one_setting(units: Iterable[Unit]) -> list[Unit]:
    """Keep one setting in each place and host: of most units, then the one without a preset."""
    groups: dict[tuple[Any, ...], dict[str, list[Unit]]] = {}
    for unit in units:
        run = unit.first
        place = (run.task, run.dataset, run.recipe, run.backbone, host_of(run))
        groups.setdefault(place, {}).setdefault(settings_text(run), []).append(unit)
    return [
        unit
        for settings in groups.values()
        for unit in min(
            settings.items(), key=lambda own: (-len(own[1]), own[1][0].first.preset or "", own[0])
        )[1]
    ]


def _partner(
    records: Iterable[Record],
    first: Record,
    runs: Selector,
    part: Part,
    fields: Iterable[str],
) -> Record | None:
    """Return the run that is most like ``first`` among those that are fair to compare with it."""
    found = [
        record
        for record in records
        if runs.takes(record)
        and _belongs(record, first, runs, part)
        and all(_value(record, name) == _value(first, name) for name in fields)
        and _matches(first, record, part)
    ]
    if not found:
        return None
    settings = dict(_plain(first))

    def unlike(record: Record) -> tuple[int, str, str]:
        differing = sum(settings.get(name) != value for name, value in _plain(record))
        return differing, record.preset or "", settings_text(record)

    return min(found, key=unlike)


def _belongs(record: Record, first: Record, runs: Selector, part: Part) -> bool:
    """Tell whether a run is built as ``first`` is, in all that the part does not contrast."""
    if record.run_key == first.run_key:
        return False
    if record.method == first.method == MIXTURE:
        contrasted = frozenset[str]().union(*(t.runs.fields for t in part.terms), part.free)
        names = {name for r in (record, first) for name, _ in _plain(r, "method.config.")}
        return all(lookup(record, n) == lookup(first, n) for n in names - contrasted)
    if not runs.host:
        return True
    held = dict(_plain(record)), dict(_plain(first))
    shared = [name for name in _HOST_FIELDS if all(name in settings for settings in held)]
    return host_of(record) == host_of(first) and all(
        held[0][name] == held[1][name] for name in shared
    )


def _plain(record: Record, prefix: str = "") -> list[tuple[str, Any]]:
    """Return dotted names and values of the settings that begin with ``prefix``."""
    return [(n, v) for n, v in flatten(record.config) if n.startswith(prefix)]


def _value(record: Record, name: str) -> Any:
    if name in _FIELDS:
        return getattr(record, name)
    origin = record.provenance
    others = {
        "data": origin.data.fingerprint,
        "weights": origin.weights,
        "processor name": origin.device,
    }
    return others[name] if name in others else lookup(record, name)


def _matches(first: Record, other: Record, part: Part) -> bool:
    """Tell whether a pair is equal in the size that the part asks for."""
    if not part.match:
        return True
    if part.match == "peak":
        return _within(_measured("train peak", first), _measured("train peak", other), _SAME_PEAK)
    if first.params is None or other.params is None:
        return False
    if part.match == "trainable":
        return _within(first.params.trainable, other.params.trainable, _SAME_PARAMETERS)
    experts, active = (lookup(first, f"method.config.{n}") for n in ("experts", "top_k"))
    held = first.params.parts.get("experts", 0)
    return _within(held * active / experts, other.params.parts.get("experts", 0), _SAME_ACTIVE)


def _within(value: float | None, other: float | None, tolerance: float) -> bool:
    return bool(value and other) and abs(float(value or 0) / float(other or 1) - 1) <= tolerance


def _contrast(part: Part, records: Sequence[Record]) -> float | None:
    """Return the signed sum of a measure, of its logarithm for ratios; None where one lacks it."""
    total = 0.0
    for term, record in zip(part.terms, records, strict=True):
        value = _measured(part.measure, record)
        if value is None or (part.rule == "ratio" and value <= 0):
            return None
        total += term.sign * (math.log(value) if part.rule == "ratio" else value)
    return total


def _measured(measure: str, record: Record) -> float | None:
    """Return points (more is better), bytes or milliseconds of a run; None where it has none."""
    if measure == "score":
        return _points(record)
    if measure == "forgetting":
        lost = record.quality.forgetting
        return None if lost is None else -100 * lost
    if measure == "latency":
        return record.time.inference_ms_per_example if record.time else None
    memory = record.memory
    if memory is None or memory.source == "predicted":
        return None
    if measure == "weight bytes":
        return sum(memory.at_peak_bytes.get(name, 0) for name in _WEIGHTS)
    return memory.train_peak_bytes if measure == "train peak" else memory.inference_peak_bytes


def _points(record: Record) -> float:
    """Return the primary score on the test split, better upwards; Rsum as its mean recall."""
    metrics = record.metrics
    parts = _RSUM_RECALLS if metrics.primary == "rsum" else 1
    sign = 1 if metrics.direction == "max" else -1
    return sign * 100 * metrics.test[metrics.primary] / parts


def _is_paper_unit(unit: Unit) -> bool:
    return all(is_paper_run(record) for record in (unit.first, *unit.others))


def _left_out(firsts: Sequence[Record], records: Sequence[Record], part: Part) -> dict[str, int]:
    """Say, for runs of the first side, in what the nearest run of another side differs."""
    fields = sorted(fair_fields(part))
    rivals = [_by_setting(r for r in records if term.runs.takes(r)) for term in part.terms[1:]]
    reasons: Counter[str] = Counter()
    for first in firsts:
        if _measured(part.measure, first) is None:
            reasons[f"no {part.measure} recorded"] += 1
            continue
        for own in rivals:
            near = [seeds.get(first.seed, next(iter(seeds.values()))) for seeds in own[first.task]]
            differing = [
                [name for name in fields if _value(rival, name) != _value(first, name)]
                for rival in near
                if rival.run_key != first.run_key
            ]
            names = min(differing, key=len) if differing else ["no run on this task"]
            reasons[", ".join(names) or "method settings"] += 1
    return dict(reasons)


def _by_setting(records: Iterable[Record]) -> dict[str, list[dict[int, Record]]]:
    """Return, by task, the runs of every setting by their seeds."""
    found: dict[str, dict[tuple[str, ...], dict[int, Record]]] = defaultdict(dict)
    for record in records:
        key = (record.dataset, record.recipe, record.backbone, settings_text(record))
        found[record.task].setdefault(key, {})[record.seed] = record
    return defaultdict(list, {task: [*own.values()] for task, own in found.items()})
