"""A study as one HTML file that needs nothing beside itself."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.figure import Figure

from reports.html.svg import inline_svg
from reports.html.template import Cell, render
from reports.studies import wording
from reports.studies.figures import CAPTIONS, figure_files
from reports.studies.sections import Section, sections
from reports.studies.summary import StudyReport

_NUMBER: Final = re.compile(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


def study_page(report: StudyReport, figures: Mapping[str, Figure]) -> str:
    """Return the page: findings, every table sortable, figures and notes.

    Args:
        report: of any study.
        figures: of it, as :func:`reports.studies.figures.drawn` returns them.
    """
    files = figure_files(figures, ("svg",))
    return render(
        "study.html.j2",
        name=report.study.name,
        title=wording.title(report),
        findings=wording.findings(report),
        sections=[(section, _rows(section)) for section in sections(report)],
        figures=[
            (name, CAPTIONS[name], inline_svg(files[f"{name}.svg"], f"{name}-", CAPTIONS[name]))
            for name in figures
        ],
        notes=wording.notes(report),
    )


def _rows(section: Section) -> list[tuple[list[Cell], str]]:
    """Return the cells of every row, and the text by which it is found."""
    return [
        (
            [_cell(text, number >= section.left) for number, text in enumerate(row)],
            _searched(section.head, row),
        )
        for row in section.rows
    ]


def _cell(text: str, is_figure: bool) -> Cell:
    """Return a cell that is sorted by the number it is, or which a figure begins with."""
    found = _NUMBER.match(text) if is_figure else _NUMBER.fullmatch(text)
    return Cell(text, float(found.group().replace(",", "")) if found else None)


def _searched(head: Sequence[str], row: Sequence[str]) -> str:
    return " ".join(f"{name}={text}" for name, text in zip(head, row, strict=True))
