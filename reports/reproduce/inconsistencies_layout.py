"""The list of inconsistencies for the terminal, for Markdown and for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.markdown import escaped, table
from reports.reproduce.disagreements import Figure, Inconsistency

HEADER = ("number", "stated", "recomputed", "")
_AGREES = {True: "agrees", False: "differs", None: ""}


def inconsistencies_shown(entries: Sequence[Inconsistency]) -> RenderableType:
    """Return the list for a terminal of 80 characters or more."""
    parts: list[RenderableType] = []
    for number, entry in enumerate(entries, 1):
        parts.append(Text(f"{number}. {entry.title}", style="bold"))
        parts.append(Padding(Text(f"Paper: {entry.says}"), (0, 0, 0, 3)))
        parts.append(Padding(Text(f"Tables: {entry.follows}"), (0, 0, 0, 3)))
        parts += [Padding(_grid(entry.figures), (0, 0, 1, 3))]
    return Group(*parts)


def inconsistencies_markdown(entries: Sequence[Inconsistency]) -> str:
    """Return the list as Markdown."""
    parts = ["## The paper's own numbers"]
    for number, entry in enumerate(entries, 1):
        parts.append(f"### {number}. {escaped(entry.title)}")
        parts.append(f"Paper: {escaped(entry.says)}")
        parts.append(f"Tables: {escaped(entry.follows)}")
        parts.append(table(HEADER, [[escaped(c) for c in _cells(f)] for f in entry.figures]))
    return "\n\n".join(parts) + "\n"


def inconsistencies_data(entries: Sequence[Inconsistency]) -> dict[str, Any]:
    """Return the list JSON-ready."""
    held = []
    for number, entry in enumerate(entries, 1):
        figures = [{**asdict(figure), "agrees": figure.agrees} for figure in entry.figures]
        held.append({"number": number, **asdict(entry), "figures": figures})
    return {"inconsistencies": held}


def _grid(figures: Sequence[Figure]) -> Table:
    grid = Table(box=None, pad_edge=False)
    for place, name in enumerate(HEADER):
        grid.add_column(name, justify="right" if place in (1, 2) else "left", header_style="dim")
    for figure in figures:
        style = "red" if figure.agrees is False else ""
        grid.add_row(*(Text(cell, style=style) for cell in _cells(figure)))
    return grid


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    recomputed = f"{figure.recomputed:.{figure.digits}f}"
    return figure.name, figure.stated, recomputed, _AGREES[figure.agrees]
