"""The forms of a report: which there are, which one is asked for, and its content."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.errors import UserError, did_you_mean
from harness.record import Record

FORMATS: Final = ("html", "md", "tex", "csv", "parquet")
FILES: Final = ("html", "parquet")
"""Formats that nobody reads in a terminal."""
_SUFFIXES: Final = {"htm": "html", "markdown": "md", "latex": "tex"}


def chosen_format(name: str | None, to: Path | None) -> str | None:
    """Return the format that is asked for by name or by a file's suffix, None by neither.

    Raises:
        UserError: there is no such format, or the suffix names none.
    """
    if name is not None:
        if name not in FORMATS:
            raise UserError(
                f"--format '{name}': there is no such one.{did_you_mean(name, FORMATS)}"
            )
        return name
    if to is None:
        return None
    suffix = to.suffix.lower().removeprefix(".")
    found = _SUFFIXES.get(suffix, suffix)
    if found not in FORMATS:
        raise UserError(
            f"--to {to}: the name's end tells no format. Add --format, or end it in one of "
            f"{', '.join(f'.{known}' for known in FORMATS)}."
        )
    return found


def content(
    name: str,
    records: Sequence[Record],
    problems: Sequence[str] = (),
    *,
    output: Path | None = None,
    allow_unfair: bool = False,
) -> bytes:
    """Return a report.

    Args:
        name: one of ``FORMATS``.
        records: of any status.
        problems: what is wrong with the files that could not be read; HTML tells them.
        output: the folder that the runs' predictions lie in; None compares the scores alone.
        allow_unfair: rank runs together that were not given the same.

    Raises:
        UserError: a library that the format needs is not installed.
    """
    if name in ("csv", "parquet"):
        from reports.export import to_csv, to_parquet

        return to_csv(records) if name == "csv" else to_parquet(records)

    from harness.cards import task_groups
    from reports.comparison import compare

    if name == "md":
        from reports.tables import comparison_markdown

        text = comparison_markdown(records, task_groups(), output=output, allow_unfair=allow_unfair)
        return text.encode()
    comparison = compare(records, output=output, allow_unfair=allow_unfair)
    if name == "tex":
        from reports.latex import comparison_latex

        return comparison_latex(comparison).encode()
    from reports.html import page

    return page(comparison, records, problems, task_groups()).encode()
