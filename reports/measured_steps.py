"""Measured steps of the papers' batches, from their file to a table. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from harness.errors import UserError
from reports.palette import printable
from reports.tables import gib

SCHEMA = 1
COLUMNS = ("backbone", "method", "precision", "peak GiB", "traced", "predicted", "step ms")
LEFT_COLUMNS = 3


def load_steps(path: Path) -> dict[str, Any]:
    """Read a file of ``harness memory measure --save``.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged or no JSON: {error}.") from None
    cells = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(cells, dict) or document.get("schema") != SCHEMA:
        raise UserError(
            f"{path} holds no measured steps of schema {SCHEMA}; "
            f"`harness memory measure --save FILE` makes such files."
        )
    return document


def steps_table(document: Mapping[str, Any]) -> Table:
    """Return the cells as a table: peaks, their differences from the allocator's, and seconds."""
    table = Table(box=box.SIMPLE_HEAD, title=Text(printable(document["device"])))
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if number < LEFT_COLUMNS else "right")
    for cell in document["cells"].values():
        table.add_row(*(Text(printable(text)) for text in _cells(cell)))
    return table


def _cells(cell: Mapping[str, Any]) -> list[str]:
    named = [cell["backbone"], cell["method"], "fp32" if cell["amp"] == "off" else cell["amp"]]
    if cell["status"] != "done":
        return [*named, cell["status"], "", "", ""]
    peak = cell["peak_bytes"]
    return [
        *named,
        gib(peak),
        difference(cell["traced_peak_bytes"], peak),
        difference(cell["predicted_peak_bytes"], peak),
        f"{1000 * cell['step_seconds']:.1f}",
    ]


def difference(nbytes: int | None, peak: int) -> str:
    """Return how far bytes are from a peak, in percent of it."""
    return "" if nbytes is None else f"{100 * (nbytes - peak) / peak:+.2f} %"
