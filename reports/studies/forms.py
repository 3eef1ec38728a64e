"""A study's report in every form that :mod:`reports.formats` knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from harness.record import Record
from harness.study import Study
from reports.formats import Forms
from reports.studies.data import report_data
from reports.studies.figures import drawn
from reports.studies.summary import StudyReport, summarise
from reports.studies.tables import study_markdown, study_table

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class StudyForms(Forms):
    """A study to report on, summarised and drawn once whatever forms are asked for.

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

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figures that the study allows, by name."""
        return drawn(self.report)

    def table(self) -> "RenderableType":
        """Return the report as a terminal shows it."""
        return study_table(self.report)

    def data(self) -> dict[str, Any]:
        """Return the report JSON-ready."""
        return report_data(self.report)

    def text(self, name: str) -> str:
        """Return the report as html, md or tex."""
        if name == "md":
            return study_markdown(self.report)
        if name == "tex":
            from reports.studies.latex import study_latex

            return study_latex(self.report)
        from reports.studies.page import study_page

        return study_page(self.report, self.figures)
