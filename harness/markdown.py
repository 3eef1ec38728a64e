"""Markdown of plain texts: nothing in them is read as markup."""

from collections.abc import Iterable, Sequence
from itertools import groupby

ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "$": "&#36;"}
SPECIAL = "\\`*_[]"


def escaped(text: str) -> str:
    """Return ``text`` on one line, so that Markdown shows it as it is, in a table too."""
    plain = "".join(ENTITIES.get(c, c) for c in " ".join(text.split()))
    return "".join(f"\\{c}" if c in SPECIAL else c for c in plain)


def code(text: str) -> str:
    """Return ``text`` as code in a cell of a table, where a bar must be escaped in code too."""
    plain = " ".join(text.split()).replace("|", "\\|")
    if not plain:
        return ""
    runs = [len(list(run)) for char, run in groupby(plain) if char == "`"]
    if not runs:
        return f"`{plain}`"
    fence = "`" * (max(runs) + 1)
    return f"{fence} {plain} {fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already, without the line end behind it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
