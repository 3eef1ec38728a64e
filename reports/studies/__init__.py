"""What an ablation study found: points, effects, importances and a memory front, from Records."""

from reports.studies.data import report_data
from reports.studies.figures import draw, save
from reports.studies.forms import StudyForms
from reports.studies.summary import StudyReport, summarise
from reports.studies.tables import study_markdown, study_table

__all__ = [
    "StudyForms",
    "StudyReport",
    "draw",
    "report_data",
    "save",
    "study_markdown",
    "study_table",
    "summarise",
]
