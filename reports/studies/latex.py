"""A study's tables for papers, in LaTeX with booktabs."""

from collections.abc import Iterator
from typing import Final

from reports.latex import OPENING, escaped, preamble
from reports.studies import wording
from reports.studies.sections import Section, sections
from reports.studies.summary import StudyReport

PACKAGES: Final = ("booktabs", "graphicx")
ROWS: Final = 40
"""A page holds so many of one line."""
_PARAGRAPH: Final = r">{\raggedright\arraybackslash}p{0.5\linewidth}"
_FITTED: Final = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""A table wider than the column is made smaller; no other is."""


def study_latex(report: StudyReport) -> str:
    """Return the whole report as LaTeX: a table for every section, a long one in several.

    Returns:
        LaTeX that needs booktabs and graphicx, with comments that say how to compile it and what
        was found.
    """
    said = [*wording.findings(report), *wording.notes(report)]
    comments = "".join(f"% {escaped(text)}\n" for text in said)
    title = wording.title(report)
    tables = [table for section in sections(report) for table in _tables(section, title)]
    return "\n".join([preamble(PACKAGES) + comments, *tables])


def _tables(section: Section, study: str) -> Iterator[str]:
    """Yield the pages of a section."""
    for start in range(0, len(section.rows), ROWS):
        rows = section.rows[start : start + ROWS]
        caption = f"{section.title}. Study {study}."
        if len(section.rows) > ROWS:
            caption += f" Rows {start + 1} to {start + len(rows)} of {len(section.rows)}."
        yield _table(section, rows, caption)


def _table(section: Section, rows: tuple[tuple[str, ...], ...], caption: str) -> str:
    lines = [
        *OPENING,
        rf"\caption{{{escaped(caption)}}}",
        _FITTED,
        rf"\begin{{tabular}}{{@{{}}{_columns(section)}@{{}}}}",
        r"\toprule",
        rf"{_row(section.head)} \\",
        r"\midrule",
        *(rf"{_row(row)} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _columns(section: Section) -> str:
    numbers = len(section.head) - section.left
    return "l" * section.left + "r" * numbers if numbers else "l" * (section.left - 1) + _PARAGRAPH


def _row(cells: tuple[str, ...]) -> str:
    return " & ".join(map(escaped, cells))
