"""A study's report for the terminal and as Markdown."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.markdown import escaped
from harness.markdown import table as markdown_table
from reports.palette import printable
from reports.studies import wording
from reports.studies.sections import Section, sections
from reports.studies.summary import StudyReport

TERMINAL_ROWS = 20


def study_table(report: StudyReport) -> RenderableType:
    """Return the report for a terminal: points, main effects, shares, findings and notes.

    Args:
        report: of any study; what it lacks is left out.

    Returns:
        Something that rich can print.
    """
    tables = [_rich(section) for section in sections(report, interactions=False)]
    found = [Text(text[0].upper() + text[1:], style="bold") for text in wording.findings(report)]
    heading = Text(wording.title(report), style="bold")
    return Group(heading, *tables, *found, *map(Text, wording.notes(report)))


def study_markdown(report: StudyReport) -> str:
    """Return the whole report as Markdown, every interaction and every missing run included."""
    parts = [
        f"# {escaped(wording.title(report))}",
        _bullets(wording.findings(report)),
        *map(_markdown, sections(report)),
        "## Notes",
        _bullets(wording.notes(report)),
    ]
    return "\n\n".join(parts) + "\n"


def _rich(section: Section) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title_justify="left")
    table.title = Text(section.title, style="bold")
    for n, name in enumerate(section.head):
        if n < section.left:
            table.add_column(Text(name), overflow="fold")
        else:
            table.add_column(Text(name.replace(" (", "\n(")), justify="right", no_wrap=True)
    for row in section.rows[:TERMINAL_ROWS]:
        table.add_row(*(Text(printable(cell)) for cell in row))
    left_out = len(section.rows) - TERMINAL_ROWS
    if left_out <= 0:
        return table
    return Group(table, Text(f"... and {left_out} more rows, which the Markdown report shows."))


def _markdown(section: Section) -> str:
    head = [escaped(name) for name in section.head]
    rows = [[escaped(printable(cell)) for cell in row] for row in section.rows]
    return f"## {escaped(section.title)}\n\n{markdown_table(head, rows)}"


def _bullets(texts: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(text)}" for text in texts)
