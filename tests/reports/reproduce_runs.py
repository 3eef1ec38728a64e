"""Runs beside the paper's tables, and what stands there."""

from io import StringIO
from typing import Any

from rich.console import Console

from harness.record import DataOrigin, Metrics, Record
from harness.testing.records import make_record
from reports.reproduce.layout import table_data
from reports.reproduce.tables import reproduced_table

GLUE = {
    "cola": ("matthews", 522),
    "sst2": ("accuracy", 872),
    "mrpc": ("score", 204),
    "qqp": ("score", 40430),
    "mnli": ("accuracy", 9815),
    "qnli": ("accuracy", 5463),
    "rte": ("accuracy", 139),
    "stsb": ("score", 750),
}
HOSTILE = "<b> a|b [red]$x_2$\x1b[31m"


def glue_run(
    task: str = "sst2", method: str = "unipt", *, seed: int = 0, score: float = 0.9, **changes: Any
) -> Record:
    """Return a run as the paper's would be: T5-base on a whole task with LST's splits."""
    metric, rows = GLUE[task]
    fields: dict[str, Any] = {
        "task": task,
        "dataset": task,
        "recipe": "text",
        "backbone": "t5-base",
        "metrics": Metrics(primary="score", direction="max", test={"score": score, metric: score}),
    }
    origin = changes.pop("origin", {})
    settings = {"splits": "lst", "train_rows": None} | changes.pop("task_config", {})
    record = make_record(method, seed, score, **fields | changes)
    data = record.provenance.data.model_dump() | {"name": task, "source": "folder"}
    data |= {"rows": {"train": 9, "val": 9, "test": rows}} | origin
    config = record.config | {"task": {"name": task, "config": settings}}
    return record.model_copy(
        update={
            "run_key": f"{task}{method}{seed}{score}{changes}"[:64],
            "config": config | {"train": {"batch_size": 100}},
            "provenance": record.provenance.model_copy(update={"data": DataOrigin(**data)}),
        }
    )


def cell(name: str, records: list[Record], predictions: Any = None, **fields: str) -> list[Any]:
    """Return what stands beside the one printed number with these fields."""
    data = table_data(reproduced_table(name, records, predictions or {}))
    [found] = [c for c in data["cells"] if all(c[k] == v for k, v in fields.items())]
    return found["ours"]


def sst2(records: list[Record], method: str = "UniPT") -> Any:
    [ours] = cell("table2", records, method=method, host="", backbone="T5-base", dataset="SST-2")
    return ours


def shown(renderable: Any, width: int = 120) -> str:
    file = StringIO()
    Console(file=file, width=width, color_system=None).print(renderable)
    return file.getvalue()
