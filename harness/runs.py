"""The runs of an output folder: which there are, and how two of them differ. Imports no torch."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from harness.cards import METHODS, TASKS
from harness.errors import UserError, did_you_mean, nearest_file
from harness.flat import flatten
from harness.record import Record, RecordStore, Status, load_record

logger = logging.getLogger(__name__)

SHORT = 10
"""Digits of a run key that are shown."""

STATUSES: tuple[str, ...] = get_args(Status)
Differences = Mapping[str, tuple[Any, Any]]
"""By dotted name the two values; None where a Record has none."""


@dataclass(frozen=True)
class Filter:
    """Which runs are wanted; None where all are.

    Attributes:
        method: ``name`` for every preset of it, or ``name@preset``.
        task: its name.
        status: how the run ended.
    """

    method: str | None = None
    task: str | None = None
    status: str | None = None

    def takes(self, record: Record) -> bool:
        """Return whether a run is one of those."""
        return (
            self.method in (None, record.method, label(record))
            and self.task in (None, record.task)
            and self.status in (None, record.status)
        )


@dataclass(frozen=True)
class RunRow:
    """One run in a list.

    Attributes:
        metric: the name of the primary metric.
        score: its value on the test split, a fraction; None where the run did not come so far.
        started_at: ISO 8601, in UTC.
    """

    run_key: str
    status: str
    method: str
    preset: str | None
    task: str
    dataset: str
    recipe: str
    seed: int
    metric: str
    score: float | None
    train_peak_bytes: int | None
    started_at: str
    limited: bool


@dataclass(frozen=True)
class Comparison:
    """How two Records differ; what is equal in both is in no list.

    Attributes:
        keys: of the two runs.
        equal_cores: whether they are the same Record: all but times, start, commit and device name.
        parts: the parts of the cores that differ.
        sections: differences by section: ``outcome``, ``config``, ``scores`` (fractions),
            ``params``, ``memory`` (bytes), ``quality``, ``time`` and ``provenance``.
    """

    keys: tuple[str, str]
    equal_cores: bool
    parts: tuple[str, ...]
    sections: Mapping[str, Differences]


def label(record: Record) -> str:
    """Return ``method@preset``, or the method alone."""
    return f"{record.method}@{record.preset}" if record.preset else record.method


def stored(output: Path) -> list[Record]:
    """Return the Records of an output folder, sorted by start; warn of files that are none.

    Raises:
        UserError: there are none.
    """
    records, problems = RecordStore(output).readable()
    for problem in problems:
        logger.warning("Left out: %s", problem)
    if not records:
        hint = nearest_file(output)
        raise UserError(f"--output {output}: there are no records. `harness run` makes them.{hint}")
    return sorted(records, key=lambda record: (record.provenance.started_at, record.run_key))


def selected(records: Sequence[Record], wanted: Filter) -> list[Record]:
    """Return the runs that are wanted, in their order.

    Raises:
        UserError: a word of the filter is the name of nothing.
    """
    methods = {record.method for record in records} | {label(record) for record in records}
    known = {
        "method": methods | set(METHODS.names()),
        "task": {record.task for record in records} | set(TASKS.names()),
        "status": set(STATUSES),
    }
    for name, choices in known.items():
        typed = getattr(wanted, name)
        if typed is not None and typed not in choices:
            raise UserError(f"--{name} '{typed}' is no {name}.{did_you_mean(typed, choices)}")
    return [record for record in records if wanted.takes(record)]


def row(record: Record) -> RunRow:
    """Return what a list shows of a run."""
    same = ("run_key", "status", "method", "preset", "task", "dataset", "recipe", "seed")
    return RunRow(
        **{name: getattr(record, name) for name in same},
        metric=record.metrics.primary,
        score=record.metrics.test.get(record.metrics.primary),
        train_peak_bytes=record.memory.train_peak_bytes if record.memory else None,
        started_at=record.provenance.started_at,
        limited=record.provenance.limited,
    )


def find(typed: str, store: RecordStore) -> Record:
    """Return the run that a user means.

    Args:
        typed: the beginning of a key in ``store``, or the file of a Record, which ends in .json.
        store: the records of an output folder.

    Raises:
        UserError: there is no such run, or there are several.
    """
    path = Path(typed)
    if path.suffix != ".json":
        return by_key(typed, store)
    if not path.is_file():
        raise UserError(f"'{typed}': there is no such file.{nearest_file(path)}")
    return load_record(path)


def by_key(typed: str, store: RecordStore) -> Record:
    """Return the only run of ``store`` whose key begins with what was typed.

    Raises:
        UserError: nothing was typed; no run's key begins so, or several do.
    """
    if not typed:
        raise UserError(
            "'' is no key: write the first digits of one; `harness runs list` has them."
        )
    record = store.find(typed)
    if not record.run_key.startswith(typed):
        raise UserError(f"No run in {store.folder} begins with '{typed}'.")
    return record


def compare_two(left: Record, right: Record) -> Comparison:
    """Return how two Records differ."""
    cores = (left.core(), right.core())
    names = sorted({*cores[0], *cores[1]})
    parts = tuple(name for name in names if cores[0].get(name) != cores[1].get(name))
    pairs = zip(_sections(left), _sections(right), strict=True)
    sections = {name: _differences(a, b) for (name, a), (_, b) in pairs}
    return Comparison(
        keys=(left.run_key, right.run_key),
        equal_cores=cores[0] == cores[1],
        parts=parts,
        sections={name: found for name, found in sections.items() if found},
    )


def _sections(record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is compared, by section, with dotted names."""
    yield "outcome", {"status": record.status, "error": record.error}
    yield "config", {_setting(name): value for name, value in flatten(record.config)}
    metrics = record.metrics
    scores = {"val": metrics.val, "test": metrics.test, "baselines": metrics.baselines}
    yield "scores", dict(flatten(scores))
    for name in ("params", "memory", "quality", "time", "provenance"):
        value = getattr(record, name)
        fields = value.model_dump(mode="json", exclude={"started_at"}) if value else {}
        yield name, dict(flatten(fields))


def _setting(name: str) -> str:
    """Return the name of a setting as ``--set`` takes it: ``method.bits``, no ``config`` within."""
    section, _, rest = name.partition(".")
    return f"{section}.{rest.removeprefix('config.')}" if rest else section


def _differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> Differences:
    pairs = {name: (left.get(name), right.get(name)) for name in {**left, **right}}
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}
