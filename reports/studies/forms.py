"""A study's report in every form that :mod:`reports.formats` knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.record import Record
from harness.study import Study
from reports.studies.data import report_data
from reports.studies.summary import StudyReport, summarise
from reports.studies.tables import study_markdown, study_table

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class StudyForms:
    """A study to report on, summarised once whatever forms are asked for.

    Attributes:
        study: its document.
        records: of its runs.
    """

    study: Study
    records: Sequence[Record]

    @cached_property
    def report(self) -> StudyReport:
        """What the study found."""
        return summarise(self.study, self.records)

    def table(self) -> "RenderableType":
        """Return the report as a terminal shows it."""
        return study_table(self.report)

    def data(self) -> dict[str, Any]:
        """Return the report JSON-ready."""
        return report_data(self.report)

    def content(self, name: str) -> bytes:
        """Return the report in one of ``reports.formats.FORMATS``; CSV and parquet hold the runs.

        Raises:
            UserError: a library that the format needs is not installed.
        """
        if name in ("csv", "parquet"):
            from reports.export import to_csv, to_parquet

            return to_csv(self.records) if name == "csv" else to_parquet(self.records)
        if name == "md":
            return study_markdown(self.report).encode()
        if name == "tex":
            from reports.studies.latex import study_latex

            return study_latex(self.report).encode()
        from reports.studies.page import study_page

        return study_page(self.report).encode()
