"""The forms of a report: which there are, which one is asked for, and what they hold."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.cards import task_groups
from harness.errors import UserError, did_you_mean
from harness.record import Record, write_atomic
from reports.averages import averages
from reports.comparison import Comparison, compare

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMATS: Final = ("html", "md", "tex", "csv", "parquet")
FILES: Final = ("html", "parquet")
"""Formats that nobody reads in a terminal."""
WRITTEN: Final = ("html", "md", "tex", "csv")
"""Formats of which a comparison and a study each leave a file."""
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


class Forms(ABC):
    """What can be written in every one of ``FORMATS``; ``records`` are the runs it is about."""

    records: Sequence[Record]

    def content(self, name: str) -> bytes:
        """Return the report in one of ``FORMATS``; CSV and parquet hold the runs.

        Raises:
            UserError: a library that the format needs is not installed.
        """
        if name in ("csv", "parquet"):
            from reports.export import to_csv, to_parquet

            return to_csv(self.records) if name == "csv" else to_parquet(self.records)
        return self.text(name).encode()

    @abstractmethod
    def text(self, name: str) -> str:
        """Return the report as html, md or tex."""

    @abstractmethod
    def table(self) -> "RenderableType":
        """Return the report as a terminal shows it."""

    @abstractmethod
    def data(self) -> dict[str, Any]:
        """Return the report JSON-ready."""

    def write(self, folder: Path, stem: str) -> list[Path]:
        """Write ``STEM.html`` and the others of ``WRITTEN``, and return the files."""
        contents = {f"{stem}.{form}": self.content(form) for form in WRITTEN}
        return [write_atomic(folder / name, content) for name, content in contents.items()]


@dataclass(frozen=True)
class Report(Forms):
    """Runs to report on, compared once whatever forms are asked for.

    Attributes:
        records: of any status.
        problems: what is wrong with the files that could not be read; HTML tells them.
        output: the folder that the runs' predictions lie in; None compares the scores alone.
        allow_unfair: rank runs together that were not given the same.
    """

    records: Sequence[Record]
    problems: Sequence[str] = ()
    output: Path | None = None
    allow_unfair: bool = False

    @cached_property
    def comparison(self) -> Comparison:
        """The runs as ranked rows.

        Raises:
            UserError: predictions are not those that a run wrote.
        """
        return compare(self.records, output=self.output, allow_unfair=self.allow_unfair)

    def table(self) -> "RenderableType":
        """Return the report as a terminal shows it."""
        from reports.tables import comparison_table

        return comparison_table(self.comparison, task_groups())

    def data(self) -> dict[str, Any]:
        """Return the report JSON-ready; a row names its first run instead of holding its Record."""
        names = ("run_key", "method", "preset", "task", "dataset", "recipe", "backbone")
        rows = []
        for number, ranking in enumerate(self.comparison.rankings):
            for row in ranking:  # rows with the same number are ranked together
                figures = {name: value for name, value in vars(row).items() if name != "runs"}
                figures["difference"] = vars(row.difference) if row.difference else None
                own = {name: getattr(row.record, name) for name in names}
                rows.append(own | {"ranking": number} | figures)
        means = []
        for average in averages(self.comparison.rows, task_groups()):
            figures = {name: value for name, value in vars(average).items() if name != "row"}
            first = average.row.record
            means.append({"method": first.method, "preset": first.preset} | figures)
        left_out = {name: getattr(self.comparison, name) for name in ("limited", "unfinished")}
        return {"rows": rows, "averages": means, **left_out}

    def text(self, name: str) -> str:
        """Return the report as html, md or tex."""
        if name == "md":
            from reports.tables import comparison_markdown

            return comparison_markdown(self.comparison, task_groups())
        if name == "tex":
            from reports.latex import comparison_latex

            return comparison_latex(self.comparison)
        from reports.html import page

        return page(self.comparison, self.records, self.problems, task_groups())
