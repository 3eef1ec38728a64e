"""New rows as a user gives them: a file of JSON lines, or one row of options. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, UserError, nearest_file

SHOWN_LINES = 3
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class NewRows:
    """Rows to be answered.

    Attributes:
        rows: JSON objects, one a row.
        lines: for each row the number of its line in the file; empty where there is no file.
        source: what the user typed to name them.
        folder: what relative paths in them start from.
        problems: lines that are no rows, each with one sentence.
    """

    rows: Sequence[Mapping[str, Any]]
    lines: Sequence[int]
    source: str
    folder: Path
    problems: Sequence[tuple[int, str]] = ()

    def place(self, rows: Sequence[int]) -> str:
        """Return how a message names rows, given by their positions."""
        return self._place([self.lines[row] for row in rows] if self.lines else [])

    def check(self, problems: Sequence[tuple[int, str]] = ()) -> None:
        """Refuse rows with which something is wrong.

        Args:
            problems: the positions of rows, each with one sentence, beside the lines that are none.

        Raises:
            ConfigError: with every problem, in the order of the lines. Lines with the same problem
                are named together.
        """
        lines: dict[str, list[int]] = {}
        numbered = [(self.lines[row] if self.lines else 0, text) for row, text in problems]
        for line, text in sorted([*self.problems, *numbered], key=lambda problem: problem[0]):
            lines.setdefault(text, []).append(line)
        if lines:
            raise ConfigError([f"{self._place(found)}: {text}" for text, found in lines.items()])

    def _place(self, lines: Sequence[int]) -> str:
        if not self.lines and not self.problems:
            return self.source
        numbers = [f"{line:,}" for line in lines]
        if len(numbers) > SHOWN_LINES + 1:
            numbers = [*numbers[:SHOWN_LINES], f"{len(numbers) - SHOWN_LINES:,} more"]
        *first, last = numbers
        if not first:
            return f"{self.source}, line {last}"
        return f"{self.source}, lines {', '.join(first)} and {last}"


def one_row(values: Mapping[str, str | None]) -> NewRows:
    """Return the row of some options, of which those that were not typed are left out."""
    typed = {name: value for name, value in values.items() if value is not None}
    options = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
    return NewRows([typed], (), options, Path())


def read_lines(path: Path, folder: Path | None = None) -> NewRows:
    """Read a file of JSON lines, one object a line; empty lines are passed over.

    Args:
        path: the file, in UTF-8.
        folder: what relative paths in it start from; None for the folder of the file.

    Raises:
        UserError: the file is missing, no text or empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"--input {path}: this is no text in UTF-8 ({error.reason}).") from None
    except OSError as error:
        raise UserError(
            f"--input {path}: cannot be read ({error.strerror}).{nearest_file(path)}"
        ) from None
    rows: list[Mapping[str, Any]] = []
    lines: list[int] = []
    problems: list[tuple[int, str]] = []
    # Not splitlines(): a string in JSON may hold the other characters that end a line there.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _parsed(line)
        if isinstance(row, str):
            problems.append((number, row))
        else:
            rows.append(row)
            lines.append(number)
    if not rows and not problems:
        raise UserError(f'--input {path}: it holds no rows such as {{"image": "a.png", ...}}.')
    return NewRows(rows, lines, str(path), folder or path.parent, problems)


def _parsed(line: str) -> Mapping[str, Any] | str:
    """Return the object that a line holds, or one sentence that says why it holds none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return f"no valid JSON ({error.msg}, column {error.colno}): {_shown(line)}."
    if not isinstance(row, Mapping):
        return f"a row is one JSON object, and this is none: {_shown(line)}."
    return row


def _shown(line: str) -> str:
    text = line.strip()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."
