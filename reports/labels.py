"""The names of rows in plots and pages."""

from collections.abc import Sequence
from itertools import count

from reports.comparison import Row
from reports.palette import printable


def label_of(row: Row) -> str:
    """Return the name of a row: method, preset, and the settings in which it differs."""
    record = row.record
    name = f"{record.method}@{record.preset}" if record.preset else record.method
    return printable(f"{name} ({row.variant})" if row.variant else name)


def cut(text: str, width: int) -> str:
    """Return ``text``, or its beginning and an ellipsis where it is longer than ``width``."""
    return text if len(text) <= width else text[: width - 1] + "…"


def cut_apart(texts: Sequence[str], width: int) -> list[str]:
    """Return texts of at most ``width`` characters; those that a cut makes equal are numbered."""
    shown, numbers = [cut(text, width) for text in texts], count(1)
    ends = [f" {next(numbers)}" if shown.count(text) > 1 else "" for text in shown]
    return [cut(text, width - len(end)) + end for text, end in zip(texts, ends, strict=True)]
