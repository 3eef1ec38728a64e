"""GLUE as text-to-text: what is read, what is written, and how it is scored."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.adaptation_folder import read_adaptation
from harness.cards import TASKS
from harness.config import RunRequest, resolve
from harness.data import Examples
from harness.errors import UserError
from harness.generation import generate
from harness.model import build_model, build_task
from harness.predict import answering_task
from harness.record import Record
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.small import SMALL_BACKBONES, small_backbone
from tasks.text.base import TextTask
from tasks.text.writing import UNREADABLE, WritingHead, label_ids, label_texts, source_text

TASKS_OF_TEXT = [name for name in TASKS.names() if issubclass(TASKS.load(name), TextTask)]


def request(method: str, task: str = "scenes_warmth", *overrides: str) -> RunRequest:
    sizes = [f"backbone.{name}={value}" for name, value in SMALL_BACKBONES["t5"].items()]
    small = ["task.form=text", "train.batch_size=16", "train.threads=1", "train.epochs=1"]
    exact = ["train.amp=off", "backbone.max_tokens=64"]  # where memory is predicted to the byte
    return RunRequest(
        method=method,
        task=task,
        backbone="t5",
        weights="random",
        limit=32,
        overrides=(*sizes, *small, *exact, *overrides),
    )


def finished(tmp_path: Path, *words: str) -> Record:
    record = run(resolve(request(*words)), RunOptions(tmp_path, "off", -1))
    assert record.status == "done", record.error
    return record


def test_a_source_names_the_task_and_its_parts():
    tables = {name: TASKS.load(name).table for name in TASKS_OF_TEXT}
    assert source_text("sst2", tables["sst2"], "so good") == "sst2 sentence: so good"
    assert source_text("qnli", tables["qnli"], ("a ?", "b")) == "qnli question: a ? sentence: b"
    assert source_text("mnli", tables["mnli"], ("a", "b")) == "mnli premise: a hypothesis b"


@pytest.mark.parametrize("name", TASKS_OF_TEXT)
def test_every_label_has_a_text_and_is_read_from_it_again(name):
    table = TASKS.load(name).table
    texts = label_texts(table)
    assert len(set(texts)) == len(texts)
    numbers = np.linspace(0, 1, len(texts)).astype(np.float32)
    ids = label_ids(table, np.arange(len(texts)) if table.labels else numbers)
    assert ids.tolist() == list(range(len(texts)))
    head = WritingHead(small_backbone("t5"), "decoder", texts)
    assert head.read(head.tokens).tolist() == list(range(len(texts)))


def test_what_follows_the_end_does_not_count_and_what_is_no_label_is_unreadable():
    head = WritingHead(small_backbone("t5"), "decoder", ["0", "1", "10"])
    written = head.tokens.clone()  # [3, N]
    written[written == head.pad] = 9
    assert head.read(written).tolist() == [0, 1, 2]
    written[:, 0] = 9
    assert head.read(written).tolist() == [UNREADABLE] * 3


def test_the_first_token_written_is_the_one_that_training_scores_highest():
    config = resolve(request("lst"))
    task = build_task(config)
    data = task.load(config.limit)
    torch.manual_seed(0)
    model = build_model(config, task, torch.device("cpu")).model.eval()
    examples = Examples(data, model.method.backbone, torch.device("cpu"))
    batch = examples.batch("test", np.arange(8))
    assert batch.targets["labels"].shape == batch.inputs["decoder_input_ids"].shape
    with torch.no_grad():
        taught = model(batch.inputs)[:, 0].argmax(-1)
        asked = examples.batch("test", np.arange(8), leave_out=("target",)).inputs
        assert "decoder_input_ids" not in asked
        written = generate(model.method, asked, model.head.score, model.head.pad, 2)
    assert torch.equal(written[:, 0], taught)


@pytest.mark.parametrize("method", ["lst", "mp_ismoe", "lora", "full"])
def test_a_run_writes_labels(method, tmp_path):
    record = finished(tmp_path, method)
    assert 0 <= record.metrics.test["accuracy"] <= 1
    assert record.params.parts["head"] == 0
    memory = record.memory
    assert 0 <= memory.train_peak_bytes - memory.predicted_train_peak_bytes <= 64
    rows = (tmp_path / record.artifacts["predictions"].path).read_text().splitlines()
    known = {*TASKS.load("scenes_warmth").table.labels, None}
    assert {json.loads(row)["prediction"] for row in rows} <= known


def test_features_are_not_stored_and_new_rows_not_answered(tmp_path):
    record = finished(tmp_path, "unipt")
    assert "token by token" in record.time.features.reason
    folder = (tmp_path / record.artifacts["adaptation"].path).parent
    with pytest.raises(UserError, match=r"only task\.form=classification"):
        answering_task(read_adaptation(folder))


def test_numbers_are_written_in_tenths(tmp_path):
    record = finished(tmp_path, "lst", "scenes_similarity")
    assert -1 <= record.metrics.test["pearson"] <= 1
    task = build_task(resolve(request("lst", "scenes_similarity")))
    read = task.predict(torch.tensor([0, 25, 50, UNREADABLE]))
    assert read.tolist() == pytest.approx([0, 0.5, 1, UNREADABLE])


def test_full_fine_tuning_learns_to_write(tmp_path):
    record = finished(tmp_path, "full", "scenes_warmth", "train.epochs=25", "train.lr=3e-3")
    first, *_, last = (epoch.loss for epoch in record.history)
    assert last < first / 4


def test_a_backbone_that_writes_nothing_is_refused():
    task = build_task(resolve(request("lst")))
    with pytest.raises(UserError, match="Bert writes no text; use a T5"):
        task.reads(small_backbone("bert"))
