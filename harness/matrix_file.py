"""Methods with settings of their own, out of a YAML file of rows. This module imports no torch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import ConfigError, did_you_mean
from harness.plan import Entry
from harness.typed_values import Scalar, read_yaml, typed

EXAMPLE = "rows: [{method: lst, settings: {train.lr: 0.001}}]"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    settings: dict[str, Scalar] = Field(default_factory=dict)


class _Matrix(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: list[_Row] = Field(min_length=1)


def read_matrix(path: Path) -> list[Entry]:
    """Return the methods of a file: ``rows``, each with a ``method`` and its ``settings``.

    Raises:
        ConfigError: with every problem of the file.
        UserError: it cannot be read, or is no YAML.
    """
    try:
        matrix = _Matrix.model_validate(read_yaml(path))
    except ValidationError as error:
        sentences = (f"--matrix {path}: {_sentence(item)}" for item in error.errors())
        raise ConfigError(list(dict.fromkeys(sentences))) from None
    entries = [
        Entry(
            row.method,
            overrides=tuple(f"{field}={typed(value)}" for field, value in row.settings.items()),
            place=f"--matrix {path}: row {number} ({row.method})",
        )
        for number, row in enumerate(matrix.rows, 1)
    ]
    if problems := list(_repeated(entries)):
        raise ConfigError(problems)
    return entries


def _repeated(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield a sentence for every row that stands in the file before, however it is ordered."""
    rows = [(entry.name, frozenset(entry.overrides)) for entry in entries]
    for entry, row in zip(entries, rows, strict=True):
        first = entries[rows.index(row)]
        if first is not entry:
            yield (
                f"{entry.place} has the method and the settings of row {rows.index(row) + 1}: "
                "take one of them away, or give it other settings."
            )


def _sentence(item: Mapping[str, Any]) -> str:
    """Say in the file's words what pydantic finds wrong."""
    section, *within = item["loc"] or ("",)
    row = f"row {within[0] + 1}: " if within else ""
    field = within[1] if len(within) > 1 else section
    if item["type"] == "extra_forbidden":
        known = (_Row if within else _Matrix).model_fields
        return f"{row}unknown field '{field}'.{did_you_mean(field, known)}"
    rules = {
        "method": "'method' must be the name of one",
        "settings": "'settings' must be SECTION.FIELD: VALUE, each value a finite number, a word, "
        "true, false or null",
    }
    whole = "a row must have a method" if within else "it must hold at least one row"
    return f"{row}{rules.get(field, whole)}. Write rows, such as '{EXAMPLE}'."
