"""Predicted memory and recounted parameters of the paper's rows, in a file beside the Records."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError
from harness.record import write_atomic
from reports.reproduce.rows import PaperRow, row_amp

FILE = Path("reproduce") / "predicted.json"


class Prediction(BaseModel):
    """What is predicted of one row on one backbone; None where the pair cannot be.

    Attributes:
        setting: ``method`` or ``method@preset`` that was taken.
        revisions: of method and backbone; a prediction of others is out of date.
        train_peak_bytes: of one training step at the paper's batch on one GPU.
        inference_peak_bytes: of inference on one row.
        trainable: parameters, the head of the paper's task included.
        percent: the same as a percentage of the backbone, as the sources count it.
        note: what is known of a difference from the printed figures.
        reason: why there is no prediction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str
    revisions: tuple[int, int]
    train_peak_bytes: int | None = None
    inference_peak_bytes: int | None = None
    trainable: int | None = None
    percent: float | None = None
    note: str = ""
    reason: str = ""


Predictions = Mapping[str, Prediction]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    predicted: dict[str, Prediction]


def prediction_key(backbone: str, row: PaperRow) -> str:
    """Return the name of a row's prediction.

    Args:
        backbone: its name here.
        row: the paper's row.
    """
    return " ".join((backbone, row.method, *row.overrides, f"train.amp={row_amp(row, backbone)}"))


def read_predictions(output: Path) -> dict[str, Prediction]:
    """Return what was predicted before; nothing where there is no file.

    Raises:
        UserError: the file is damaged.
    """
    path = output / FILE
    if not path.is_file():
        return {}
    try:
        return _File.model_validate_json(path.read_bytes()).predicted
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise UserError(
            f"{path} holds no predictions: {field}: {first['msg']}. Delete it; --predict makes it."
        ) from error


def write_predictions(output: Path, predictions: Predictions) -> Path:
    """Write the file, whole, and return it."""
    held = {key: value.model_dump(mode="json") for key, value in sorted(predictions.items())}
    text = json.dumps({"predicted": held}, indent=1)
    return write_atomic(output / FILE, text.encode())
