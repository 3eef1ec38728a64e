"""The paper's tables with our numbers beside the printed ones, each labelled by its kind."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from harness.record import Record
from reports.published import (
    PUBLISHED_UNIT,
    TABLES,
    PublishedValue,
    backbone_here,
    published_values,
)
from reports.reproduce.places import BATCH_SIZES, place
from reports.reproduce.predictions import Prediction, Predictions, prediction_key
from reports.reproduce.rows import PaperRow, paper_row, row_label
from reports.reproduce.selection import setting_name, usable
from reports.reproduce.stand_ins import Ours, runs_named, score_beside

GIB = 2**30
PUBLISHED = "published"  # the preset of settings that a source has on a backbone
NOT_PREDICTED = "not predicted yet (--predict)"
_GLUE_TASKS = 8
_MEMORY = ("memory_train", "memory_test")


@dataclass(frozen=True)
class Cell:
    """A printed number, and ours: at least one, the most telling first."""

    published: PublishedValue
    ours: tuple[Ours, ...]


@dataclass(frozen=True)
class Block:
    """The rows of a table on one backbone.

    Attributes:
        title: part of the table and backbone.
        rows: names of the rows.
        columns: dataset, split and metric, as printed.
        cells: by row and column; a pair that is missing is not printed in the paper.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[tuple[str, str, str], ...]
    cells: Mapping[tuple[str, tuple[str, str, str]], Cell]


@dataclass(frozen=True)
class ReproducedTable:
    """One of the paper's tables.

    Attributes:
        name: ``table1`` and so on.
        blocks: one for each part and backbone.
        notes: what is known of differences from the printed figures.
    """

    name: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]


def reproduced_table(
    name: str,
    records: Sequence[Record],
    predictions: Predictions,
    about_steps: Mapping[str, str] | None = None,
) -> ReproducedTable:
    """Put our numbers beside a table's.

    Args:
        name: ``table1`` to ``table4``.
        records: of any status; unfinished and limited runs do not count.
        predictions: by :func:`~reports.reproduce.predictions.prediction_key`.
        about_steps: by backbone, what is known of its printed memory.
    """
    runs = list(usable(records))
    values = [v for part in TABLES[name] for v in published_values() if v.table == part]
    blocks = [
        _block(part, backbone, list(own), runs, predictions)
        for (part, backbone), own in groupby(values, key=lambda v: (v.table, v.backbone))
    ]
    backbones = dict.fromkeys(backbone_here(value.backbone) for value in values)
    steps = [f"{b}: {about_steps[b]}" for b in backbones if about_steps and about_steps.get(b)]
    return ReproducedTable(name, tuple(blocks), (*_notes(blocks, predictions), *steps))


def _block(
    part: str,
    backbone: str,
    values: Sequence[PublishedValue],
    runs: Sequence[Record],
    predictions: Predictions,
) -> Block:
    cells: dict[tuple[str, tuple[str, str, str]], Cell] = {}
    for (method, host), row_values in groupby(values, key=lambda v: (v.method, v.host)):
        row, label = paper_row(method, host), row_label(method, host)
        predicted = predictions.get(prediction_key(backbone_here(backbone), row))
        own = {v.column: Cell(v, _ours(v, row, runs, predicted)) for v in row_values}
        cells |= {(label, column): cell for column, cell in _averaged(own).items()}
    return Block(
        title=f"Table {part}, {backbone}",
        rows=tuple(dict.fromkeys(row for row, _ in cells)),
        columns=tuple(dict.fromkeys(column for _, column in cells)),
        cells=cells,
    )


def _ours(
    value: PublishedValue, row: PaperRow, runs: Sequence[Record], predicted: Prediction | None
) -> tuple[Ours, ...]:
    backbone = backbone_here(value.backbone)
    if value.metric == "trainable_params":
        return (_parameters(value, predicted),)
    if value.metric in _MEMORY:
        measured = _measured_memory(value, row, runs, backbone)
        return (*measured, _predicted_memory(value, predicted))
    where = place(*value.column)
    if where is None:
        return (Ours("not yet", note="an average needs every task of it, measured"),)
    return (score_beside(runs, row, where, backbone, f"{value.dataset} on {value.backbone}"),)


def _parameters(value: PublishedValue, predicted: Prediction | None) -> Ours:
    if predicted is None or predicted.trainable is None:
        return _no_prediction(predicted)
    count = predicted.percent if value.unit == "%" else predicted.trainable / 1e6
    return Ours(
        "predicted", count, setting=predicted.setting, source="recounted", note=predicted.note
    )


def _predicted_memory(value: PublishedValue, predicted: Prediction | None) -> Ours:
    if predicted is None:
        return _no_prediction(predicted)
    training = value.metric == "memory_train"
    nbytes = predicted.train_peak_bytes if training else predicted.inference_peak_bytes
    if nbytes is None:
        return _no_prediction(predicted)
    step = "one training step at the paper's batch" if training else "inference on one row"
    return Ours(
        "predicted",
        nbytes / (PUBLISHED_UNIT if training else GIB),
        setting=predicted.setting,
        source=f"{step}, one GPU",
        nbytes=nbytes,
    )


def _no_prediction(predicted: Prediction | None) -> Ours:
    reason = predicted.reason if predicted else NOT_PREDICTED
    return Ours("not yet", note=reason or "no such prediction")


def _measured_memory(
    value: PublishedValue, row: PaperRow, runs: Sequence[Record], backbone: str
) -> list[Ours]:
    """Return the highest training peak of a row's runs at the paper's backbone, data and batch."""
    if value.metric != "memory_train":
        return []
    columns = {v.column for v in published_values() if v.backbone == value.backbone}
    places = [found for column in columns if (found := place(*column)) is not None]
    peaks = [
        (record.memory.train_peak_bytes, record)
        for record in runs
        if row.selector.takes(record)
        and all(condition.holds(record) for condition in row.exact)
        and any(where.is_official(record, backbone) for where in places)
        and record.config.get("train", {}).get("batch_size") == BATCH_SIZES[backbone]
        and record.memory is not None
        and record.memory.source == "allocator"
    ]
    if not peaks:
        return []
    nbytes, record = max(peaks, key=lambda peak: peak[0])
    return [
        Ours(
            "measured",
            nbytes / PUBLISHED_UNIT,
            setting=setting_name(record),
            source=f"{runs_named(record)}, on {record.provenance.device}",
            nbytes=nbytes,
        )
    ]


def _averaged(
    cells: Mapping[tuple[str, str, str], Cell],
) -> dict[tuple[str, str, str], Cell]:
    """Fill in GLUE's average where all of its tasks are measured; stand-ins have none."""
    found = dict(cells)
    scores = [
        ours.value
        for column, cell in cells.items()
        if place(*column) is not None
        and (ours := cell.ours[0]).kind == "measured"
        and ours.value is not None
    ]
    for column, cell in cells.items():
        if column[0] == "GLUE-avg" and len(scores) == _GLUE_TASKS:
            ours = Ours("measured", fmean(scores), source="mean of the eight tasks")
            found[column] = Cell(cell.published, (ours,))
    return found


def _notes(blocks: Sequence[Block], predictions: Predictions) -> list[str]:
    """Say what units are read, and what is known of differences."""
    metrics = {column[2] for block in blocks for column in block.columns}
    notes = ["Training memory as printed is in units of 1000 MiB; GiB stands below it."]
    if "memory_test" in metrics:
        notes.append(
            "The unit of printed inference memory is not stated; GiB fits it, and is ours."
        )
    if "mAP" in metrics:
        notes.append("What the paper prints as mAP is here the accuracy at IoU 0.5.")
    counts = [
        (cell.published, cell.ours[0])
        for block in blocks
        for cell in block.cells.values()
        if cell.published.metric == "trainable_params"
    ]
    if any(ours.note == NOT_PREDICTED for _, ours in counts):
        notes.append(f"Memory and trainable parameters without a figure: {NOT_PREDICTED}.")
    notes += sorted({ours.note for _, ours in counts if ours.kind == "predicted" and ours.note})
    reasons = {found.reason for found in predictions.values() if found.reason}
    notes += [
        f"{row_label(value.method, value.host)} on {value.backbone}: {ours.note}"
        for value, ours in counts
        if ours.note in reasons
    ]
    return [*notes, *_default_notes(counts)]


def _default_notes(counts: Sequence[tuple[PublishedValue, Ours]]) -> Iterator[str]:
    """Name the rows whose setting on a backbone is not known, so that ours was predicted."""
    rows: dict[str, list[str]] = {}
    for value, ours in counts:
        known = ours.setting == "full" or ours.setting.endswith(f"@{PUBLISHED}")
        if ours.kind == "predicted" and not known:
            rows.setdefault(value.backbone, []).append(row_label(value.method, value.host))
    for backbone, names in rows.items():
        own = ", ".join(dict.fromkeys(names))
        yield f"Predicted on {backbone} in settings of this package, for want of others: {own}."
