"""Lists of runs, what tells two runs apart, and what can be removed, as aligned plain lines."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from harness.cleaning import Item
from harness.record import Record
from harness.runs import SHORT, Comparison, RunRow, label
from reports.palette import printable
from reports.tables import gib, percent

LIST_HEADER = (
    "key",
    "status",
    "method",
    "task",
    "dataset",
    "recipe",
    "seed",
    "test (%)",
    "peak (GiB)",
    "started (UTC)",
)
LIST_NUMBERS = (6, 7, 8)
UNITS = {"scores": "%", "memory": "GiB"}


def list_lines(rows: Sequence[RunRow]) -> list[str]:
    """Return one line a run under a header; scores in percent, memory in GiB."""
    return aligned([LIST_HEADER, *(_cells(row) for row in rows)], LIST_NUMBERS)


def diff_lines(left: Record, right: Record, comparison: Comparison) -> list[str]:
    """Return what tells two runs apart, section by section; what is equal is not shown."""
    lines = [f"a  {_title(left)}", f"b  {_title(right)}"]
    if comparison.equal_cores:
        lines.append("The two Records are the same: their cores are equal.")
    else:
        lines.append(f"Their cores differ in {', '.join(comparison.parts)}.")
    for section, differences in comparison.sections.items():
        unit = f" ({UNITS[section]})" if section in UNITS else ""
        rows = [(name, *_pair(section, name, *values)) for name, values in differences.items()]
        lines += ["", *aligned([(section + unit, "a", "b"), *rows])]
    return lines


def item_lines(items: Sequence[Item]) -> list[str]:
    """Return one line for each file or folder, its size in GiB, and their sum."""
    rows = [(f"{gib(item.bytes)} GiB", item.what, printable(str(item.path))) for item in items]
    total = sum(item.bytes for item in items)
    return [*aligned(rows, (0,)), f"{gib(total)} GiB ({total:,} bytes) in all"]


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return rows as lines with two spaces between their columns.

    Args:
        rows: cells, as many in every row.
        right: the columns that stand on the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_padded(row, widths, right)).rstrip() for row in rows]


def _padded(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if column in right else cell.ljust(width)


def _cells(row: RunRow) -> list[str]:
    cells = [
        row.run_key[:SHORT],
        row.status,
        f"{row.method}@{row.preset}" if row.preset else row.method,
        row.task,
        row.dataset,
        f"{row.recipe}, limited" if row.limited else row.recipe,
        str(row.seed),
        "" if row.score is None else percent(row.score),
        "" if row.train_peak_bytes is None else gib(row.train_peak_bytes),
        _minute(row.started_at),
    ]
    return [printable(cell) for cell in cells]


def _minute(started_at: str) -> str:
    """Return a time to the minute, in UTC; what is no time as it is."""
    try:
        return datetime.fromisoformat(started_at).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return started_at


def _title(record: Record) -> str:
    return printable(
        f"{record.run_key[:SHORT]}  {label(record)} on {record.task}: {record.dataset}, "
        f"recipe {record.recipe}, seed {record.seed}"
    )


def _pair(section: str, name: str, left: Any, right: Any) -> tuple[str, str]:
    """Return two values as a reader wants them, exactly where rounding makes them look equal."""
    rounded = _rounded(section, name, left), _rounded(section, name, right)
    return rounded if rounded[0] != rounded[1] else (_exact(left), _exact(right))


def _rounded(section: str, name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _exact(value)
    if section == "memory" or name.endswith("bytes"):
        return gib(int(value))
    if section == "scores":
        return percent(value)
    return f"{value:,}" if isinstance(value, int) and section == "params" else f"{value:.6g}"


def _exact(value: Any) -> str:
    if value is None:
        return "-"
    return printable(value if isinstance(value, str) else json.dumps(value))
