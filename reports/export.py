"""Records as one tidy table: a run a row, every value in a column of its own."""

import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, Final

import pandas as pd
from pydantic import BaseModel

from harness.errors import UserError
from harness.flat import flatten
from harness.record import Record

_BY_LAYER: Final = {"layer_quantization_mse"}
_NAMES = (
    "run_key",
    "status",
    "error",
    "method",
    "preset",
    "task",
    "dataset",
    "recipe",
    "backbone",
    "seed",
)
_ORIGIN = ("commit", "dirty", "device", "threads", "weights", "started_at", "limited")
_DATA = ("source", "revision", "licence", "rows", "fingerprint")


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return the records as a table, one row a run, in their order.

    Columns: the run's names; ``primary``, ``direction`` and ``score``, the primary metric on the
    test split; ``test.NAME``, ``val.NAME`` and ``baseline.NAME``, fractions; ``params.NAME``;
    ``memory.NAME``, where bytes are integers; ``time.NAME`` in the unit that the name ends with;
    ``quality.NAME``; ``config.SECTION.FIELD``; ``provenance.NAME``. What a run lacks is missing.
    A list is JSON, and so is every value of a setting that is a number in one run and a text in
    another.
    """
    rows = [_row(record) for record in records]
    columns = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame(
        {name: _column([row.get(name) for row in rows]) for name in columns or _NAMES}
    )


def to_csv(records: Iterable[Record]) -> bytes:
    """Return the table of :func:`frame` as CSV in UTF-8."""
    return frame(records).to_csv(index=False).encode()


def to_parquet(records: Iterable[Record]) -> bytes:
    """Return the table of :func:`frame` as a parquet file.

    Raises:
        UserError: pyarrow, which writes it, is not installed.
    """
    file = BytesIO()
    try:
        frame(records).to_parquet(file, engine="pyarrow", index=False)
    except ImportError as error:
        raise UserError(
            "--format parquet needs pyarrow: pip install pyarrow. --format csv needs nothing."
        ) from error
    return file.getvalue()


def _row(record: Record) -> dict[str, Any]:
    metrics, origin = record.metrics, record.provenance
    return {
        **{name: getattr(record, name) for name in _NAMES},
        "primary": metrics.primary,
        "direction": metrics.direction,
        "score": metrics.test.get(metrics.primary),
        **_named("test", metrics.test),
        **_named("val", metrics.val),
        **_named("baseline", metrics.baselines),
        **_fields("params", record.params),
        **_fields("memory", record.memory),
        **_fields("time", record.time),
        **_named("quality", record.quality.model_dump(mode="json", exclude=_BY_LAYER)),
        **dict(flatten(record.config, "config.")),
        **{f"provenance.{name}": getattr(origin, name) for name in _ORIGIN},
        **_named("provenance.data", {name: getattr(origin.data, name) for name in _DATA}),
        **_named("provenance.packages", origin.packages),
        "provenance.notices": list(origin.notices),
    }


def _fields(prefix: str, model: BaseModel | None) -> dict[str, Any]:
    return _named(prefix, model.model_dump(mode="json")) if model else {}


def _named(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(flatten(values, f"{prefix}."))


def _column(values: list[Any]) -> pd.Series:
    """Return a column of one type that knows missing values: whole numbers stay whole."""
    kinds = {_kind(value) for value in values if value is not None}
    if kinds == {int, float}:
        kinds = {float}
    elif len(kinds) > 1 or kinds == {list}:
        values = [None if value is None else json.dumps(value) for value in values]
        kinds = {str}
    return pd.Series(values, dtype=_DTYPES[next(iter(kinds), str)])


def _kind(value: Any) -> type:
    return next(kind for kind in (bool, int, float, str, list) if isinstance(value, kind))


_DTYPES = {bool: "boolean", int: "Int64", float: "Float64", str: "string"}
