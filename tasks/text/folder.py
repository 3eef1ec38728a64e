"""Labelled texts out of a folder of files as GLUE, or a hub, distributes them."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.errors import UserError, check_data_folder, did_you_mean
from tasks.folder import refuse
from tasks.sources import Fingerprint
from tasks.text.cards import MINI, Table
from tasks.text.rows import TextRows
from tasks.text.sheets import Sheet, find_files, hub_name, read_sheet

MISSING_SHARE = 0.001
"""Rows that a complete file may lack: copies without duplicates are still that dataset."""


class TextFolder:
    """The files of one dataset.

    Args:
        dataset: its name; ``NAME-mini`` may have any number of rows.
        title: name of a folder inside ``data_dir`` that may hold the files.
        table: their columns.
        data_dir: the folder, None where none was given.

    Raises:
        UserError: no folder was given, or it is none.
    """

    def __init__(self, dataset: str, title: str, table: Table, data_dir: Path | None) -> None:
        self.dataset = dataset
        self.table = table
        self.folder = _existing(dataset, title, table, data_dir)

    def read(self, fingerprint: Fingerprint) -> dict[str, TextRows]:
        """Return the rows of every file.

        Args:
            fingerprint: takes in the bytes of every file.

        Raises:
            UserError: with all problems of the first file that has some.
        """
        return {name: self._read(name, fingerprint) for name in self.table.files}

    def _read(self, name: str, fingerprint: Fingerprint) -> TextRows:
        paths = find_files(self.folder, name)
        if not paths:
            held = sorted(p.name for p in self.folder.iterdir())[:8]
            raise UserError(
                f"Dataset '{self.dataset}' needs {name}.tsv (or {name}.tsv.gz) in "
                f"'{self.folder}', which holds {', '.join(held) or 'nothing'}. `harness data show "
                f"{self.dataset.removesuffix(MINI)}` prints the layout."
            )
        rows = self._parse(name, read_sheet(paths, self.table, fingerprint))
        self._check_count(paths[0], name, len(rows))
        return rows

    def _parse(self, name: str, sheet: Sheet) -> TextRows:
        columns = [_column(sheet.path, sheet.header, names) for names in self.table.texts]
        label_column = _column(sheet.path, sheet.header, self.table.label)
        problems: list[str] = []
        texts: list[tuple[str, ...]] = []
        labels: list[float] = []
        for number, cells in enumerate(sheet.rows, sheet.first):
            found = list(self._problems(cells, len(sheet.header), columns, label_column))
            problems += [f"{sheet.unit} {number}: {problem}" for problem in found]
            if not found:
                texts.append(tuple(cells[column] for column in columns))
                labels.append(self._label(cells[label_column]))
        refuse(sheet.path, problems)
        if not texts:
            raise UserError(f"'{sheet.path}' has no rows.")
        return TextRows(
            [text[0] if len(text) == 1 else (text[0], text[1]) for text in texts],
            np.asarray(labels),
            [f"{name}:{row}" for row in range(len(texts))],
        )

    def _problems(
        self, cells: Sequence[str], width: int, columns: Sequence[int], label: int
    ) -> Iterator[str]:
        if len(cells) != width:
            yield f"{len(cells)} cells, and the header has {width}"
            return
        for column in columns:
            if not cells[column].strip():
                yield f"cell {column + 1} is empty, and must hold a text"
        value = cells[label]
        if math.isnan(self._label(value)):
            known = self.table.labels or (f"numbers from 0 to {self.table.highest:g}",)
            yield f"unknown label '{value}'; labels are {', '.join(known)}"

    def _label(self, value: str) -> float:
        """Return the label's number; NaN for none."""
        if self.table.labels:
            known = value in self.table.labels
            return float(self.table.labels.index(value)) if known else math.nan
        try:
            number = float(value)
        except ValueError:
            return math.nan
        return number if 0 <= number <= self.table.highest else math.nan

    def _check_count(self, path: Path, name: str, found: int) -> None:
        expected = self.table.rows[name]
        if self.dataset.endswith(MINI):
            return
        if not math.ceil(expected * (1 - MISSING_SHARE)) <= found <= expected:
            raise UserError(
                f"'{path}' has {found} rows, and '{self.dataset}' has {expected} there. A part of "
                f"it is another dataset: --dataset {self.dataset}{MINI}."
            )


def folder_layout(table: Table, *, whole: bool) -> dict[str, str]:
    """Return the files of a table's folder, with what they hold."""
    columns = [" or ".join(names) for names in (*table.texts, table.label)]
    labels = " | ".join(table.labels) or f"a number from 0 to {table.highest:g}"
    return {
        f"{name}.tsv": f"tab-separated, or {name}.tsv.gz, or {hub_name(name)}-*-of-*.parquet; the "
        f"columns {', '.join(columns)} ({labels})" + (f"; {rows:,} rows" if whole else "")
        for name, rows in table.rows.items()
    }


def write_example(table: Table, folder: Path) -> None:
    """Write a tiny folder of a table's files.

    Args:
        table: says which files and columns.
        folder: is made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = [names[0] for names in (*table.texts, table.label)]
    for name in table.files:
        rows = []
        for number in range(40):
            texts = [f"text {number * 7 % 40} of {name}" for _ in table.texts]
            texts[-1] += " again" * (number % 2)
            label = table.labels[number % len(table.labels)] if table.labels else "1.5"
            rows.append([*texts, label if number % 3 or table.labels else "0.5"])
        lines = "".join("\t".join(cells) + "\n" for cells in [header, *rows])
        (folder / f"{name}.tsv").write_text(lines, encoding="utf-8")


def _existing(dataset: str, title: str, table: Table, data_dir: Path | None) -> Path:
    plain = dataset.removesuffix(MINI)
    if data_dir is None:
        files = ", ".join(f"{name}.tsv" for name in table.files)
        raise UserError(
            f"Dataset '{dataset}' is read from a folder: give --data-dir DIR with {files}. "
            f"`harness data show {plain}` prints the layout."
        )
    check_data_folder(data_dir)
    inner = next((p for p in (data_dir / title, data_dir / plain) if p.is_dir()), None)
    return inner or data_dir


def _column(path: Path, header: Sequence[str], names: Sequence[str]) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise UserError(
        f"'{path}' has no column '{names[0]}'; its header is {', '.join(header)}."
        f"{did_you_mean(names[0], header)} (The labels of GLUE's test.tsv are secret.)"
        if names[0] == "label"
        else f"'{path}' has no column '{names[0]}'; its header is {', '.join(header)}."
    )
