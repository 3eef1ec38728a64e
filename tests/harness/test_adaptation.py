"""A saved adaptation gives the model that was scored."""

import json
from pathlib import Path

import pytest
import torch

from harness.adaptation import load_adaptation
from harness.config import RunRequest, resolve
from harness.data import Examples
from harness.errors import UserError
from harness.model import build_task
from harness.run import RunOptions, run

SMALL = ("train.epochs=2", "train.batch_size=32", "memory.profile=false")


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
    data = build_task(resolve(RunRequest(method="lst", task="vqa", limit=64))).load(64)
    examples = Examples(data, model.method.backbone, torch.device("cpu"))
    rows = [json.loads(line) for line in _lines(output / record.artifacts["predictions"].path)]
    with torch.no_grad():
        batch = examples.batch("test", torch.arange(len(rows)).numpy())
        answers = [task.answers[i] for i in task.predict(model(batch.inputs)).tolist()]
    assert answers == [row["prediction"] for row in rows]


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


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
