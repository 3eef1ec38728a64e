"""Batches of rows: which rows lie together, and how their texts are padded."""

import numpy as np
import torch

from harness.bare_trainer import bare_trainer
from harness.config import resolve
from harness.data import Order
from harness.testing.runs import small_request


def test_calibration_reads_the_same_rows_again_and_no_padding() -> None:
    config = resolve(small_request("lst", task="scenes_entailment", limit=60))
    trainer = bare_trainer(config, torch.device("cpu"))
    ctx, examples = trainer.context, trainer.examples
    first, again = ([batch.rows.tolist() for batch in ctx.calibration(24)] for _ in range(2))
    assert first == again
    rows = [row for part in first for row in part]
    assert len(set(rows)) == len(rows) == 24
    masks = [batch.inputs["attention_mask"] for batch in ctx.calibration(24)]
    assert all(bool(mask.all()) for mask in masks)
    assert len({mask.shape[1] for mask in masks}) > 1
    whole = examples.batch("train", np.asarray(rows)).inputs["attention_mask"]
    assert sum(int(mask.sum()) for mask in masks) == int(whole.sum()) < whole.numel()


def test_a_split_smaller_than_a_batch_is_one_step() -> None:
    order = Order(rows=3, batch_size=8, seed=0)
    (step,) = order.epoch(0)
    assert (order.steps, order.rows_of_a_step, len(step)) == (1, 3, 3)
