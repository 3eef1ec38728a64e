"""Scores by example, read from the predictions that runs leave in their output folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.record import Record
from reports.statistics import Examples
from tasks.metrics.grounding import box_iou

_OUTPUTS = frozenset({"prediction", "correct", "rank"})
_HALF_COVERED = 0.5
SAME_MEAN = 1e-6
"""A mean that is closer to a Record's score is that score."""


def example_scores(record: Record, output: Path) -> Examples | None:
    """Return a run's primary metric on each test example.

    None where the predictions are not at hand, or where the metric is no mean over them, such as a
    correlation, an F1 score or a sum of recalls: their mean is not the Record's score. Of boxes,
    which are written with four digits, rounding may turn one example over.

    Args:
        record: a finished run.
        output: the folder that its artifacts lie in.

    Raises:
        UserError: the file is not the one that the run wrote.
    """
    rows = _rows(record, output)
    scores = _scores(rows) if rows else None
    if scores is None:
        return None
    miss = abs(scores.mean() - record.metrics.test[record.metrics.primary])
    if miss > (1 / len(scores) if _has_boxes(rows) else SAME_MEAN):
        return None
    asked = [{name: v for name, v in row.items() if name not in _OUTPUTS} for row in rows]
    text = json.dumps(asked, sort_keys=True)
    return Examples(hashlib.sha256(text.encode()).hexdigest(), scores)


def _rows(record: Record, output: Path) -> list[dict[str, Any]]:
    artifact = record.artifacts.get("predictions")
    if artifact is None or not (output / artifact.path).is_file():
        return []
    content = (output / artifact.path).read_bytes()
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        raise UserError(
            f"The predictions of run {record.run_key[:16]}, {output / artifact.path}, are not "
            f"those that it wrote. Remove the file to compare the scores alone."
        )
    return [json.loads(line) for line in content.splitlines()]


def _scores(rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Return float64 [rows]: right or not, by what a task writes; None where it writes neither."""
    first = rows[0]
    if "correct" in first:
        return np.asarray([row["correct"] for row in rows], dtype=np.float64)
    if isinstance(first.get("label"), str):
        return np.asarray([row["label"] == row["prediction"] for row in rows], dtype=np.float64)
    if _has_boxes(rows):
        predicted, expected = (
            np.asarray([row[name] for row in rows]) for name in ("prediction", "box")
        )
        return (box_iou(predicted, expected) >= _HALF_COVERED).astype(np.float64)
    return None


def _has_boxes(rows: Sequence[Mapping[str, Any]]) -> bool:
    return "box" in rows[0]
