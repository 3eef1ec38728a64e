"""A plan beside what is there already: which runs are done, which are missing, what they need."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.config import RunConfig
from harness.errors import UserError
from harness.known_runs import KnownRuns
from harness.plan import Plan
from harness.record import Record, RecordStore, content_hash
from reports.palette import printable
from reports.tables import gib, percent

Row = dict[str, Any]


def plan_rows(plan: Plan, output: Path, *, predict: bool) -> list[Row]:
    """Return one JSON-ready row for each run of a plan.

    Args:
        plan: the resolved runs.
        output: where their records would be.
        predict: whether to predict the peak of pairs of which no run is done.

    Returns:
        Rows with ``label`` (the method with the settings that a matrix gives it), ``method``,
        ``task``, ``dataset``, ``recipe``, ``backbone``, ``seed``,
        ``status`` (``missing`` where there is no record), ``score``, ``peak_bytes``, ``peak``
        (``measured`` or ``predicted``), ``seconds`` (measured, or the mean of earlier runs in the
        folder that differ in the seed alone) and ``note``.
    """
    records, _ = RecordStore(output).readable()
    known = KnownRuns(records)
    found = [(config, known.find(config)) for config in plan.configs]
    predicted = _predicted([c for c, record in found if not _done(record)]) if predict else {}
    return [
        {"label": label, **_row(config, record, _earlier_seconds(known, config), predicted)}
        for label, (config, record) in zip(plan.labels, found, strict=True)
    ]


def _done(record: Record | None) -> bool:
    return record is not None and record.status == "done"


def _pair(config: RunConfig) -> str:
    """Return the same text for runs that differ in nothing but the seed."""
    return content_hash({**config.resolved(), "seed": None})


def _earlier_seconds(known: KnownRuns, config: RunConfig) -> float | None:
    """Return the mean time of a run's seeds that are done, whichever they are."""
    records = [record for record in known.of_any_seed(config) if record.status == "done"]
    times = [record.time.total_seconds for record in records if record.time is not None]
    return fmean(times) if times else None


def _predicted(configs: Sequence[RunConfig]) -> dict[str, int | str]:
    """Return the predicted peak of every pair, or why there is none."""
    from harness.model import build_task
    from harness.run_budget import predicted_peak

    peaks: dict[str, int | str] = {}
    for config in configs:
        if _pair(config) in peaks:
            continue
        try:
            task = build_task(config)
            peaks[_pair(config)] = predicted_peak(config, task, task.load(config.limit))
        except UserError as error:  # such as data that are missing
            peaks[_pair(config)] = str(error)
    return peaks


def _row(
    config: RunConfig,
    record: Record | None,
    seconds: float | None,
    predicted: Mapping[str, int | str],
) -> Row:
    guess = predicted.get(_pair(config))
    row: Row = {
        "method": config.method.label,
        "task": config.task.name,
        "dataset": config.task.dataset,
        "recipe": config.task.recipe,
        "backbone": config.backbone.label,
        "seed": config.seed,
        "status": record.status if record else "missing",
        "score": None,
        "peak_bytes": guess if isinstance(guess, int) else None,
        "peak": "predicted" if isinstance(guess, int) else None,
        "seconds": seconds,
        "note": guess if isinstance(guess, str) else record.error if record else None,
    }
    if record is not None and record.status == "done":
        row["score"] = record.metrics.test.get(record.metrics.primary)
        row["seconds"] = record.time.total_seconds if record.time else None
        if record.memory:
            row |= {"peak_bytes": record.memory.train_peak_bytes, "peak": "measured"}
    return row


def plan_table(rows: Sequence[Row], left_out: Mapping[str, str]) -> RenderableType:
    """Return the rows for a terminal, with their sums below."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("method", "task", "dataset", "recipe"):
        table.add_column(name, overflow="fold")
    for name in ("seed", "status", "test (%)", "peak (GiB)", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in _cells(row)))
    return Group(table, *map(Text, _sums(rows)), *(Text(t) for t in _reasons(rows, left_out)))


def _cells(row: Row) -> Iterator[str]:
    for name in ("label", "task", "dataset", "recipe", "seed", "status"):
        yield str(row[name])
    yield "" if row["score"] is None else percent(row["score"])
    mark = "~" if row["peak"] == "predicted" else ""
    yield "" if row["peak_bytes"] is None else f"{mark}{gib(row['peak_bytes'])}"
    about = "~" if row["status"] != "done" else ""
    yield "" if row["seconds"] is None else f"{about}{row['seconds']:.0f}"


def _sums(rows: Sequence[Row]) -> Iterator[str]:
    done = [row for row in rows if row["status"] == "done"]
    to_run = [row for row in rows if row["status"] != "done"]
    known = [row["seconds"] for row in to_run if row["seconds"] is not None]
    text = f"{len(done)} of {len(rows)} runs are done, {len(to_run)} to be run"
    if known:
        text += f"; {len(known)} of them will take about {sum(known) / 60:.0f} min, one at a time"
    yield f"{text}. ~: predicted, or the time of other seeds."


def _reasons(rows: Sequence[Row], left_out: Mapping[str, str]) -> Iterator[str]:
    for row in rows:
        if row["note"]:
            yield printable(f"{row['label']} on {row['task']}, seed {row['seed']}: {row['note']}")
    for pair, reason in left_out.items():
        yield printable(f"Left out: {pair}: {reason}")
