"""Batches of rows: which rows lie together, and how their texts are padded."""

import numpy as np
import torch

from harness.config import resolve
from harness.context import Context
from harness.data import Examples, Order
from harness.model import build_model, build_task
from harness.testing.runs import small_request


def context() -> tuple[Context, Examples]:
    config = resolve(small_request("lst", task="scenes_entailment", limit=60))
    task = build_task(config)
    torch.manual_seed(0)
    model = build_model(config, task, torch.device("cpu")).model
    examples = Examples(task.load(config.limit), model.method.backbone, torch.device("cpu"))
    return Context(config, task, model, examples), examples


def test_calibration_reads_the_same_rows_again_and_no_padding() -> None:
    ctx, examples = context()
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
