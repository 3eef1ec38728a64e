"""The names of rows in plots and pages."""

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
