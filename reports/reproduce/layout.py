"""Printed numbers with ours below them, for the terminal, for Markdown and for JSON."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.markdown import escaped, table
from reports.palette import printable
from reports.published import PUBLISHED_UNIT
from reports.reproduce.stand_ins import Ours
from reports.reproduce.tables import GIB, Block, Cell, ReproducedTable

LABEL_WIDTH = 19
CELL_WIDTH = 12
_METRICS = {
    "trainable_params": "trainable parameters",
    "memory_train": "training memory (1000 MiB)",
    "memory_test": "inference memory (GiB)",
    "matthews": "Matthews",
    "f1_or_mean_f1_acc": "mean of F1 and accuracy",
    "pearson-spearman": "mean of Pearson and Spearman",
}
_WHOLE_ROW = ("all", "GLUE")
_UNNAMED_SPLITS = ("-", "train", "test", "unspecified")
Footnotes = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class _Line:
    """One quantity of a block: its name, and printed number and ours by row."""

    label: str
    cells: Mapping[str, tuple[str, tuple[str, ...]]]


def table_shown(reproduced: ReproducedTable, width: int) -> RenderableType:
    """Return a table for a terminal: the paper's rows side by side, as many as its width holds.

    Args:
        reproduced: the table.
        width: characters, 80 or more.
    """
    parts: list[RenderableType] = []
    footnotes = _footnotes(reproduced)
    at_once = max(1, (width - LABEL_WIDTH) // CELL_WIDTH)
    for block in reproduced.blocks:
        lines = list(_lines(block, footnotes))
        for rows in _chunks(block.rows, at_once):
            parts.append(_grid(block.title, rows, lines))
    notes = [*_footnote_lines(reproduced, footnotes), *reproduced.notes]
    return Group(*parts, *(Text(printable(note)) for note in [_legend(), *notes]))


def table_markdown(reproduced: ReproducedTable) -> str:
    """Return a table as Markdown: in every cell the printed number, then ours with its kind."""
    footnotes = _footnotes(reproduced)
    parts = [f"## {reproduced.name}"]
    for block in reproduced.blocks:
        rows = [
            [escaped(line.label), *(escaped(_one_line(line.cells.get(r))) for r in block.rows)]
            for line in _lines(block, footnotes)
        ]
        parts.append(f"### {escaped(block.title)}")
        parts.append(table(["", *map(escaped, block.rows)], rows))
    notes = [_legend(), *_footnote_lines(reproduced, footnotes), *reproduced.notes]
    parts.append("\n".join(f"- {escaped(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def table_data(reproduced: ReproducedTable) -> dict[str, Any]:
    """Return a table JSON-ready: one entry for every printed number."""
    cells = [
        {
            **asdict(cell.published),
            "value": cell.published.value,
            "ours": [asdict(ours) for ours in cell.ours],
        }
        for block in reproduced.blocks
        for cell in block.cells.values()
    ]
    return {"table": reproduced.name, "cells": cells, "notes": list(reproduced.notes)}


def _lines(block: Block, footnotes: Footnotes) -> Iterator[_Line]:
    for column in block.columns:
        cells = {row: cell for row in block.rows if (cell := block.cells.get((row, column)))}
        unit = next(iter(cells.values())).published.unit
        label = _column_label(column, unit)
        yield _Line(label, {row: _texts(cell, footnotes) for row, cell in cells.items()})
        if column[2] == "memory_train":
            yield _Line("the same in GiB", {row: _in_gib(cell) for row, cell in cells.items()})


def _column_label(column: tuple[str, str, str], unit: str) -> str:
    dataset, split, metric = column
    name = _METRICS.get(metric, metric.replace("_", " "))
    if dataset in _WHOLE_ROW:
        return f"{name} ({unit})" if metric == "trainable_params" else name
    place = dataset if split in _UNNAMED_SPLITS else f"{dataset} {split}"
    return place if metric == "average" else f"{place} {name}"


def _texts(cell: Cell, footnotes: Footnotes) -> tuple[str, tuple[str, ...]]:
    published = cell.published
    digits = len(published.printed.partition(".")[2]) if published.unit == "score" else 2
    own: list[str] = []
    for ours in cell.ours:
        if ours.value is not None:
            spread = "" if ours.deviation is None else f" ± {ours.deviation:.1f}"
            own.append(f"{ours.value:.{max(digits, 1)}f}{spread}")
        own.append(_kind(ours, footnotes))
    return published.printed, tuple(own)


def _in_gib(cell: Cell) -> tuple[str, tuple[str, ...]]:
    own: list[str] = []
    for ours in cell.ours:
        own += [f"{ours.nbytes / GIB:.2f}", ours.kind] if ours.nbytes is not None else [ours.kind]
    return f"{cell.published.value * PUBLISHED_UNIT / GIB:.1f}", tuple(own)


def _kind(ours: Ours, footnotes: Footnotes) -> str:
    number = footnotes.get((ours.kind, ours.source), "")
    return f"{ours.kind} {number}".rstrip()


def _footnotes(reproduced: ReproducedTable) -> dict[tuple[str, str], str]:
    """Number what our scores are of, in the order of appearance."""
    keys = dict.fromkeys(
        (ours.kind, ours.source)
        for ours in _all_ours(reproduced)
        if ours.kind in ("measured", "stand-in")
    )
    return {key: str(number) for number, key in enumerate(keys, 1)}


def _footnote_lines(reproduced: ReproducedTable, footnotes: Footnotes) -> Iterator[str]:
    for (kind, source), number in footnotes.items():
        own = [o for o in _all_ours(reproduced) if (o.kind, o.source) == (kind, source)]
        places = ", ".join(dict.fromkeys(o.in_place_of for o in own if o.in_place_of))
        settings = ", ".join(dict.fromkeys(o.setting for o in own if "@" in o.setting))
        seeds = sorted({len(o.seeds) for o in own if o.seeds})
        parts = [f"{kind} {number}: {source}"]
        parts += [f"in place of {places}"] if places else []
        parts += [f"with {settings}"] if settings else []
        parts += (
            [f"seeds a cell: {'..'.join(map(str, {seeds[0]: 0, seeds[-1]: 0}))}"] if seeds else []
        )
        yield "; ".join(parts) + "."


def _all_ours(reproduced: ReproducedTable) -> Iterator[Ours]:
    for block in reproduced.blocks:
        for cell in block.cells.values():
            yield from cell.ours


def _legend() -> str:
    return (
        "Printed number first, ours below it. measured: the paper's backbone, data and split; "
        "stand-in: others, named below, and comparable with no printed number; predicted: without "
        "weights or data; not yet: no figure."
    )


def _one_line(texts: tuple[str, tuple[str, ...]] | None) -> str:
    if texts is None:
        return ""
    printed, own = texts
    return f"{printed} / {' '.join(own)}"


def _grid(title: str, rows: Sequence[str], lines: Iterable[_Line]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, title_justify="left")
    grid.title = Text(title, style="bold")
    grid.add_column("", width=LABEL_WIDTH - 1, overflow="fold")
    for row in rows:
        grid.add_column(row, justify="right", width=CELL_WIDTH - 1, overflow="fold")
    for line in lines:
        texts = [line.cells.get(row, ("", ())) for row in rows]
        cells = [Text("\n".join(printable(t) for t in (printed, *own))) for printed, own in texts]
        grid.add_row(Text(line.label), *cells)
        grid.add_section()
    return grid


def _chunks(rows: Sequence[str], at_once: int) -> Iterator[Sequence[str]]:
    """Yield runs of rows of nearly equal length, none longer than ``at_once``."""
    parts = -(-len(rows) // at_once)
    size = -(-len(rows) // parts)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
