"""The design of a study: its factors, the runs that have a score, and the cells that have none."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.record import Record
from harness.study import Axis, Cell, Study
from reports.palette import printable

Levels = tuple[int | None, ...]
"""The level of each factor, by position; None where a factor does not apply."""


@dataclass(frozen=True)
class Factor:
    """An axis of the study.

    Attributes:
        field: of the configuration.
        label: the field's last part; the whole field where two factors share a last part.
        values: those of the axis, and behind them those that only a cell has.
    """

    field: str
    label: str
    values: tuple[Any, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as they are written in tables and figures."""
        return tuple(map(_text, self.values))

    @property
    def is_numeric(self) -> bool:
        """Whether every value is a number."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)


@dataclass(frozen=True)
class ScoredRun:
    """A finished run with a test score."""

    levels: Levels
    seed: int
    record: Record

    @property
    def test(self) -> float:
        """The primary metric on the test split, a fraction."""
        return self.record.metrics.test[self.record.metrics.primary]

    @property
    def validation(self) -> float | None:
        """The primary metric on the validation split, a fraction, where it was measured."""
        return self.record.metrics.val.get(self.record.metrics.primary)

    @property
    def peak_bytes(self) -> int | None:
        """The highest memory of a training step, where it was measured."""
        return self.record.memory.train_peak_bytes if self.record.memory else None


@dataclass(frozen=True)
class Unscored:
    """A cell without a score, and why."""

    levels: Levels
    seed: int
    status: str
    reason: str


@dataclass(frozen=True)
class Design:
    """The factors of a study, and its cells by whether they have a score.

    Attributes:
        factors: in the order of the axes.
        runs: in the order of their levels and seeds, whatever the order of the cells.
        unscored: likewise.
        planned: the number of cells by their levels.
    """

    factors: tuple[Factor, ...]
    runs: tuple[ScoredRun, ...]
    unscored: tuple[Unscored, ...]
    planned: dict[Levels, int]

    def label(self, levels: Levels) -> str:
        """Return a setting in words: ``bits=4, experts=8``."""
        named = [
            f"{factor.label}={factor.texts[level]}"
            for factor, level in zip(self.factors, levels, strict=True)
            if level is not None
        ]
        return ", ".join(named) or "the only setting"

    def setting(self, levels: Levels) -> dict[str, Any]:
        """Return the value of every factor that applies, by field."""
        pairs = zip(self.factors, levels, strict=True)
        return {f.field: f.values[level] for f, level in pairs if level is not None}


def read_design(study: Study, records: Iterable[Record]) -> Design:
    """Sort the cells of a study into scored runs and cells without a score.

    Two cells of the same setting and seed are the same run and count once.

    Args:
        study: its document.
        records: of its runs; others are passed over.
    """
    factors, known_records = _factors(study), {record.run_key: record for record in records}
    runs: dict[tuple[Levels, int], ScoredRun] = {}
    unscored: dict[tuple[Levels, int], Unscored] = {}
    for cell in study.cells:
        levels, record = _levels(cell, factors), _record(cell, known_records)
        if record is not None and _is_scored(record):
            runs.setdefault((levels, cell.seed), ScoredRun(levels, cell.seed, record))
        else:
            missed = Unscored(levels, cell.seed, *_why(cell, record))
            unscored.setdefault((levels, cell.seed), missed)
    known = runs.keys() | unscored.keys()
    return Design(
        factors=factors,
        runs=tuple(runs[key] for key in sorted(runs, key=_order)),
        unscored=tuple(unscored[k] for k in sorted(unscored, key=_order) if k not in runs),
        planned=dict(Counter(levels for levels, _ in sorted(known, key=_order))),
    )


def _record(cell: Cell, records: Mapping[str, Record]) -> Record | None:
    """Return the outcome of a cell; what the study pruned has none that counts."""
    if cell.run_key is None or cell.status == "pruned":
        return None
    return records.get(cell.run_key)


def _is_scored(record: Record) -> bool:
    return record.status == "done" and record.metrics.primary in record.metrics.test


def _why(cell: Cell, record: Record | None) -> tuple[str, str]:
    """Return the status of a cell without a score, and the reason."""
    if record is None:
        if cell.status == "done":
            return "missing", "its Record is not there"
        return cell.status, cell.reason or ("not run yet" if cell.status == "missing" else "")
    if record.status == "done":
        return "no score", f"its Record has no {record.metrics.primary} on the test split"
    return record.status, record.error or cell.reason or ""


def _factors(study: Study) -> tuple[Factor, ...]:
    shared = Counter(axis.label for axis in study.axes)
    return tuple(
        Factor(
            field=axis.field,
            label=printable(axis.label if shared[axis.label] == 1 else axis.field),
            values=tuple(_distinct(_values(axis, study.cells))),
        )
        for axis in study.axes
    )


def _values(axis: Axis, cells: Sequence[Cell]) -> list[Any]:
    extra = {_key(v): v for c in cells if axis.field in c.point for v in [c.point[axis.field]]}
    return [*axis.values, *(extra[key] for key in sorted(extra))]


def _distinct(values: Sequence[Any]) -> Iterator[Any]:
    seen: set[str] = set()
    for value in values:
        if _key(value) not in seen:
            seen.add(_key(value))
            yield value


def _levels(cell: Cell, factors: Sequence[Factor]) -> Levels:
    return tuple(
        [_key(v) for v in factor.values].index(_key(cell.point[factor.field]))
        if factor.field in cell.point
        else None
        for factor in factors
    )


def _order(key: tuple[Levels, int]) -> tuple[tuple[int, ...], int]:
    levels, seed = key
    return tuple(-1 if level is None else level for level in levels), seed


def _key(value: Any) -> str:
    """Return the same text for values that are the same in JSON, 4 and 4.0 among them."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(float(value) if is_number else value, sort_keys=True)


def _text(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
