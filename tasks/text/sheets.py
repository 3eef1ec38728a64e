"""Files of rows and columns: tab-separated, or parquet as a hub keeps GLUE."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from tasks.folder import read_bytes
from tasks.sources import Fingerprint
from tasks.text.cards import Table

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Sheet:
    """The rows of one file, or of the parts of one.

    Attributes:
        path: the file, or the first part.
        header: names of the columns.
        rows: the cells of each row.
        unit: what messages count: ``line`` or ``row``.
        first: the number of the first row.
    """

    path: Path
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    unit: str
    first: int


def find_files(folder: Path, name: str) -> list[Path]:
    """Return the file of a table's rows, or its parts; none where there is none.

    Args:
        folder: where they are.
        name: ``train``, ``dev`` or similar.
    """
    for suffix in (".tsv", ".tsv.gz"):
        if (path := folder / f"{name}{suffix}").is_file():
            return [path]
    return sorted(folder.glob(f"{hub_name(name)}-*-of-*.parquet"))


def hub_name(name: str) -> str:
    """Return what a hub calls a file: ``validation`` stands for ``dev``."""
    return name.replace("dev", "validation")


def read_sheet(paths: Sequence[Path], table: Table, fingerprint: Fingerprint) -> Sheet:
    """Return the rows of a file.

    Args:
        paths: what ``find_files`` found.
        table: its columns and labels.
        fingerprint: takes in the bytes of every part.

    Raises:
        UserError: it cannot be read.
    """
    if paths[0].suffix == ".parquet":
        return _read_parquet(paths, table, fingerprint)
    return _read_tsv(paths[0], table, fingerprint)


def _read_tsv(path: Path, table: Table, fingerprint: Fingerprint) -> Sheet:
    data = read_bytes(path)
    fingerprint.add(data)
    try:
        lines = data.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not UTF-8 text ({error.reason}).") from None
    cells = [line.rstrip("\r").split("\t") for line in lines]
    if table.headerless and not any(label in cells[0] for label in table.label):
        return Sheet(path, table.headerless, cells, "line", 1)
    return Sheet(path, cells[0], cells[1:], "line", 2)


def _read_parquet(paths: Sequence[Path], table: Table, fingerprint: Fingerprint) -> Sheet:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise UserError(
            f"Reading '{paths[0]}' needs pyarrow. Get it with: pip install 'metl-harness[hub]'"
        ) from None
    parts = []
    for path in paths:
        data = read_bytes(path)
        fingerprint.add(data)
        try:
            parts.append(pq.read_table(pa.BufferReader(data)))
        except pa.ArrowException as error:
            raise UserError(f"'{path}' is no parquet file that can be read: {error}.") from None
    _check_columns(paths, parts)
    whole = pa.concat_tables(parts)
    columns = [_cells(whole, name, table) for name in whole.column_names]
    return Sheet(paths[0], whole.column_names, list(zip(*columns, strict=True)), "row", 1)


def _check_columns(paths: Sequence[Path], parts: Sequence["pa.Table"]) -> None:
    first = parts[0].schema
    for path, part in zip(paths, parts, strict=True):
        if not part.schema.equals(first):
            raise UserError(
                f"'{path}' has the columns {', '.join(part.schema.names)}, of other names or types "
                f"than '{paths[0].name}' ({', '.join(first.names)})."
            )


def _cells(whole: "pa.Table", name: str, table: Table) -> list[str]:
    """Return a column's values as files spell them."""
    values = ["" if value is None else str(value) for value in whole[name].to_pylist()]
    if name not in table.label or not table.labels:
        return values
    names = _class_names(whole, name)
    return [
        names[int(value)]
        if value not in table.labels and value.isdecimal() and int(value) < len(names)
        else value
        for value in values
    ]


def _class_names(whole: "pa.Table", name: str) -> list[str]:
    """Return what the numbers of a column stand for, as the ``datasets`` library notes it."""
    noted = (whole.schema.metadata or {}).get(b"huggingface")
    if noted is None:
        return []
    features: dict[str, Any] = json.loads(noted)["info"]["features"]
    return list(features[name].get("names", []))
