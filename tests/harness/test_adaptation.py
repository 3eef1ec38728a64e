"""A saved adaptation gives the model that was scored."""

import json
from functools import cache
from pathlib import Path

import easy_vqa
import numpy as np
import pytest
import torch

from harness.adaptation import load_adaptation
from harness.cli import execute
from harness.config import RunRequest, resolve
from harness.data import Examples
from harness.errors import UserError
from harness.model import AdaptedModel, build_task
from harness.run_options import RunOptions
from harness.runner import run
from tasks.base import TaskData

# In fp32, as bf16 rounds a batch of another size otherwise.
SMALL = ("train.epochs=2", "train.batch_size=32", "memory.profile=false", "train.amp=off")


@pytest.fixture(scope="module", params=["mp_ismoe", "adapter"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    overrides = (*SMALL, "method.bits=4") if request.param == "mp_ismoe" else SMALL
    config = resolve(RunRequest(method=request.param, task="vqa", limit=64, overrides=overrides))
    output = tmp_path_factory.mktemp("adaptation")
    record = run(config, RunOptions(output=output, tracking_uri="off", verbosity=-1))
    return record, output, output / record.artifacts["adaptation"].path


def test_the_loaded_model_predicts_what_the_run_did(trained):
    record, output, file = trained
    model, task = load_adaptation(file.parent, device="cpu")
    rows = [json.loads(line) for line in _lines(output / record.artifacts["predictions"].path)]
    answers = [task.answers[i] for i in task.predict(_outputs(model, len(rows))).tolist()]
    assert answers == [row["prediction"] for row in rows]


def test_the_command_answers_what_the_run_did(trained, tmp_path: Path, capsys):
    record, output, file = trained
    predicted = [json.loads(line) for line in _lines(output / record.artifacts["predictions"].path)]
    images = easy_vqa.get_test_image_paths()
    asked = [
        {"image": str(images[int(row["image"].removeprefix("test/"))]), "text": row["question"]}
        for row in predicted
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in asked))
    words = ["--input", str(tmp_path / "rows.jsonl"), "--top", "99", "--batch-size", "7"]
    capsys.readouterr()
    assert execute(["predict", str(output), *words, "--device", "cpu"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [{key: row[key] for key in ("image", "text")} for row in rows] == asked
    best = [row["answers"][0]["answer"] for row in rows]
    assert best == [row["prediction"] for row in predicted]

    model, task = load_adaptation(file.parent, device="cpu")
    chances = _outputs(model, len(rows)).softmax(1).tolist()
    for row, expected in zip(rows, chances, strict=True):
        found = {one["answer"]: one["probability"] for one in row["answers"]}
        assert found == pytest.approx(dict(zip(task.answers, expected, strict=True)), abs=1e-5)


def test_it_is_small_and_its_size_is_recorded(trained):
    record, _, file = trained
    assert record.artifacts["adaptation"].bytes == file.stat().st_size
    assert {p.name for p in file.parent.iterdir()} == {"config.json", "tensors.safetensors"}
    trained_bytes = 4 * record.params.trainable
    assert file.stat().st_size >= trained_bytes
    if record.method == "adapter":
        assert file.stat().st_size < trained_bytes + 20_000


def test_other_weights_and_damage_are_refused(trained, tmp_path: Path):
    _, _, file = trained
    with pytest.raises(UserError, match="was trained on backbone weights with hash"):
        load_adaptation(file.parent, weights="random")
    with pytest.raises(UserError, match="is no description of an adaptation"):
        load_adaptation(tmp_path)
    (tmp_path / "config.json").write_bytes((file.parent / "config.json").read_bytes())
    (tmp_path / "tensors.safetensors").write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match="is damaged"):
        load_adaptation(tmp_path)


@cache
def _data() -> TaskData:
    return build_task(resolve(RunRequest(method="lst", task="vqa"))).load(64)


def _outputs(model: AdaptedModel, rows: int) -> torch.Tensor:
    """Return the model's outputs for the first rows of the test split, as a run reads them."""
    examples = Examples(_data(), model.method.backbone, torch.device("cpu"))
    with torch.no_grad():
        return model(examples.batch("test", np.arange(rows)).inputs)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
