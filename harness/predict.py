"""A trained adaptation answers new rows. The dataset that it was trained on need not be there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from harness.adaptation import restore_model, restore_task
from harness.adaptation_folder import SavedAdaptation
from harness.backbones.base import Backbone
from harness.cards import TASKS
from harness.config import TrainConfig
from harness.data import Examples, sequential
from harness.endings import is_out_of_memory
from harness.errors import RowError, UserError
from harness.model import AdaptedModel, pick_device
from harness.precision import autocast
from harness.rows import NewRows
from tasks.base import NEW, Answer, AnsweringTask, SplitData


@dataclass(frozen=True)
class Prediction:
    """Answers to new rows.

    Attributes:
        answers: of every row, the best first, computed batch by batch as they are asked for.
        cut: positions of the rows whose text is longer than the backbone reads.
    """

    answers: Iterator[list[Answer]]
    cut: Sequence[int]


def predict(
    saved: SavedAdaptation,
    new: NewRows,
    *,
    top: int,
    batch_size: int | None = None,
    weights: str | None = None,
    device: str = "auto",
) -> Prediction:
    """Answer new rows as the run that trained the adaptation would have: in its precision.

    Args:
        saved: the adaptation.
        new: the rows.
        top: number of answers a row.
        batch_size: rows of one forward pass; None for those of the run's evaluation.
        weights: where the backbone's weights are now; None for where they were.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:INDEX``.

    Raises:
        UserError: the task cannot answer new rows, a row cannot be read, or the backbone's weights
            are not those that the adaptation was trained on.
    """
    place = pick_device(device)
    task = answering_task(saved)
    data = _read(task, new)
    train = saved.config.train
    torch.set_num_threads(train.threads)
    model = restore_model(saved, task, weights=weights, device=place)
    examples = Examples(data, model.method.backbone, place)
    rows = batch_size or train.eval_batch_size
    return Prediction(
        answers=_answers(model, task, examples, train, rows, top),
        cut=_cut_rows(model.method.backbone, data),
    )


def answering_task(saved: SavedAdaptation) -> AnsweringTask:
    """Return the adaptation's task.

    Raises:
        UserError: it cannot answer new rows.
    """
    task = restore_task(saved)
    if not isinstance(task, AnsweringTask):
        able = [name for name in TASKS.names() if issubclass(TASKS.load(name), AnsweringTask)]
        raise UserError(
            f"{saved.folder} was trained on task '{saved.config.task.name}', which cannot answer "
            f"new rows; those that can: {', '.join(able)}."
        )
    if task.writes:
        raise UserError(
            f"{saved.folder} was trained with task.form=text; only task.form=classification gives "
            f"the probabilities with which new rows are answered."
        )
    return task


def _read(task: AnsweringTask, new: NewRows) -> SplitData:
    """Read the rows; all that is wrong with any line is reported together."""
    if not new.rows:
        new.check()
    try:
        data = task.read_rows(new.rows, new.folder)
    except RowError as error:
        new.check(error.problems)
        raise
    new.check()
    return data


def _cut_rows(backbone: Backbone, data: SplitData) -> list[int]:
    if "text" not in data.units:
        return []
    texts = data.units["text"]
    cut = np.asarray(backbone.cuts(texts.take(np.arange(len(texts)))))
    return np.flatnonzero(cut[data.splits[NEW].units["text"]]).tolist()


@torch.no_grad()
def _answers(
    model: AdaptedModel,
    task: AnsweringTask,
    examples: Examples,
    train: TrainConfig,
    batch_size: int,
    top: int,
) -> Iterator[list[Answer]]:
    for rows in sequential(len(examples.split(NEW)), batch_size):
        try:
            with autocast(examples.device, train):
                output = model(examples.batch(NEW, rows).inputs)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"{len(rows)} rows at once need more memory than {examples.device} has; "
                f"give a smaller --batch-size."
            ) from None
        yield from task.ranked(output, top)
