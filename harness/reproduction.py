"""Memory and parameters of the paper's rows, predicted on fake and meta tensors."""

import logging
from collections.abc import Callable
from dataclasses import replace

from harness.cards import BACKBONES, METHODS, PUBLISHED, published_setting
from harness.counting import count_parameters
from harness.errors import UserError
from harness.paper_step import StepRequest, predict_step
from reports.published import TABLES, backbone_here, published_values
from reports.reproduce.predictions import Prediction, Predictions, prediction_key
from reports.reproduce.rows import PaperRow, paper_row, row_amp

log = logging.getLogger(__name__)


def predict_table(
    name: str, known: Predictions, keep: Callable[[Predictions], object]
) -> Predictions:
    """Predict the rows of a table that were not predicted before, or by other code.

    Args:
        name: ``table1`` to ``table4``.
        known: what was predicted before.
        keep: called with all predictions after each new one, so that an end of any kind loses none.
    """
    found = current(known)
    for backbone, row in table_rows(name):
        key = prediction_key(backbone, row)
        if key not in found:
            log.info("Predicting %s", key)
            found = {**found, key: predict_row(backbone, row)}
            keep(found)
    return found


def current(known: Predictions) -> dict[str, Prediction]:
    """Return the predictions that the code of today would make, too."""
    return {
        key: found
        for key, found in known.items()
        if found.revisions == _revisions(key.split()[0], found.setting)
    }


def table_rows(name: str) -> list[tuple[str, PaperRow]]:
    """Return backbone, by its name here, and row, of every row of a table."""
    rows = {
        (backbone_here(value.backbone), paper_row(value.method, value.host))
        for value in published_values()
        if value.table in TABLES[name]
    }
    return sorted(rows, key=lambda pair: prediction_key(*pair))


def predict_row(backbone: str, row: PaperRow) -> Prediction:
    """Predict a row's memory at the paper's batch, and count its parameters.

    Args:
        backbone: its name here.
        row: the paper's row.
    """
    setting, note = _setting(backbone, row)
    step = StepRequest(setting, backbone, overrides=row.overrides, amp=row_amp(row, backbone))
    revisions = _revisions(backbone, setting)
    try:
        counted = count_parameters(row.counted or setting, backbone)
        training = predict_step(step)
        inference = predict_step(replace(step, batch_size=1))
    except UserError as error:
        return Prediction(setting=setting, revisions=revisions, reason=str(error))
    return Prediction(
        setting=setting,
        revisions=revisions,
        train_peak_bytes=training.train_peak_bytes,
        inference_peak_bytes=inference.inference_peak_bytes,
        trainable=counted.trainable,
        percent=counted.percent,
        note=note,
    )


def _setting(backbone: str, row: PaperRow) -> tuple[str, str]:
    """Return the row's published setting on the backbone where it has one, and its note."""
    choice = METHODS.choose(row.method)
    published = published_setting(choice.card, BACKBONES.choose(backbone))
    if published is None or choice.preset is not None:
        return row.method, ""
    note = f"{row.method} on {backbone}: {published.note}" if published.note else ""
    return f"{row.method}@{PUBLISHED}", note


def _revisions(backbone: str, setting: str) -> tuple[int, int]:
    method = METHODS.choose(setting).card.revision
    return method, BACKBONES.choose(backbone).card.revision
