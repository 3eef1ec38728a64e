"""Forgetting: the pretraining task asked again through adapted features."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.backbones.scenes_vl import ScenesVLConfig, source_task
from harness.backbones.scenes_vl.checkpoint import (
    HEADS_PREFIX,
    SCORES_FILE,
    WEIGHTS_FILE,
    WEIGHTS_FOLDER,
    sha256,
)
from harness.backbones.scenes_vl.model import ScenesVL
from harness.config import RunConfig, RunRequest, resolve
from harness.forgetting import forgetting
from harness.model import AdaptedModel, build_model, build_task
from harness.record import Record
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.small import SMALL_BACKBONES, small_backbone

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_task, "PAIRS", 100)
    monkeypatch.setattr("harness.forgetting._SCORES_BEFORE", {})


def configured(method: str, task: str, *overrides: str, **fields: Any) -> RunConfig:
    few = ("train.threads=1", "train.epochs=1", "memory.profile=false", *overrides)
    values = {"limit": 32, "device": "cpu", "amp": "off", **fields}
    return resolve(RunRequest(method=method, task=task, overrides=few, **values))


def built(method: str, task: str, *overrides: str) -> tuple[RunConfig, AdaptedModel]:
    """Return an adapted model that is not trained."""
    config = configured(method, task, *overrides)
    work = build_task(config)
    work.load(config.limit)
    return config, build_model(config, work, CPU).model


def perturb(model: AdaptedModel, size: float) -> None:
    with torch.no_grad():
        for parameter in model.method.parameters():
            if parameter.requires_grad:
                parameter += size * torch.randn_like(parameter)


@pytest.mark.parametrize(
    ("method", "task"),
    [("linear_probe", "vqa"), ("linear_probe", "image_text_retrieval"), ("full", "vqa")],
)
def test_features_that_did_not_change_forget_exactly_nothing(method: str, task: str) -> None:
    assert forgetting(*built(method, task), CPU) == 0.0


@pytest.mark.parametrize(
    ("method", "task"),
    [
        ("lora", "image_text_retrieval"),
        ("lst", "vqa"),
        ("lst", "scenes_warmth"),
    ],
)
def test_features_that_changed_at_random_forget(method: str, task: str) -> None:
    config, model = built(method, task)
    perturb(model, 0.3)
    lost = forgetting(config, model, CPU)
    assert lost is not None
    assert 0.1 < lost <= 1


def test_a_low_bit_backbone_forgets_by_itself() -> None:
    lost = {
        bits: forgetting(
            *built(
                "linear_probe",
                "image_text_retrieval",
                "backbone.quantize=rtn",
                f"backbone.quantize_bits={bits}",
            ),
            CPU,
        )
        for bits in (8, 2)
    }
    assert lost[2] > 0.1 > abs(lost[8])


@pytest.mark.parametrize("task", ["vqa", "image_text_retrieval"])
def test_it_is_the_same_every_time_and_leaves_everything_as_it_was(task: str) -> None:
    config, model = built("mp_ismoe", task, "method.correlation=shuffled")
    model.train()
    tensors, state = model.fitted_tensors(), torch.get_rng_state()
    first = forgetting(config, model, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert forgetting(config, model, CPU) == first
    assert model.training
    assert not model.method.backbone.training
    assert model.method.statistics().keys() == {"quantization_mse"}  # no expert was counted
    after = model.fitted_tensors()
    assert tensors.keys() == after.keys()
    assert all(torch.equal(tensors[name], after[name]) for name in tensors)


def test_runs_of_a_process_ask_the_pretrained_backbone_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0
    encode_all = ScenesVL.encode_all

    def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return encode_all(*arguments)

    monkeypatch.setattr(ScenesVL, "encode_all", counted)
    config, model = built("lora", "image_text_retrieval")
    first = forgetting(config, model, CPU)
    once = asked
    assert once > 0
    assert forgetting(config, model, CPU) == first
    assert asked == once
    forgetting(*built("lora", "image_text_retrieval", "backbone.dropout=0.1"), CPU)
    assert asked == 2 * once


def test_the_pretrained_backbone_scores_what_pretraining_recorded() -> None:
    backbone = ScenesVL.build(ScenesVLConfig())
    recorded = json.loads((WEIGHTS_FOLDER / SCORES_FILE).read_text())
    found = {}
    for reads in (("image", "text"), ("joint",)):
        source = backbone.source_task(reads)
        assert source is not None
        assert set(source.streams) == set(reads)
        with torch.no_grad():
            found[reads] = source.score(lambda i, own=source: backbone.encode_all(own.streams, i))
    recalls = (recorded["image_to_text_r1"] + recorded["text_to_image_r1"]) / 2
    assert found[("image", "text")] == pytest.approx(recalls, abs=0.03)
    # Its own negatives are the hardest of 50, these are any.
    assert found[("joint",)] >= recorded["matching_accuracy"] - 0.02


@pytest.mark.parametrize("name", SMALL_BACKBONES)
def test_a_backbone_that_was_not_pretrained_has_no_source_task(name: str) -> None:
    backbone = small_backbone(name)
    for spec in backbone.specs:
        assert backbone.source_task((spec.name,)) is None


def test_weights_without_the_heads_of_pretraining_have_no_source_task(tmp_path: Path) -> None:
    folder = shutil.copytree(WEIGHTS_FOLDER, tmp_path / "weights")
    tensors = load_file(folder / WEIGHTS_FILE)
    bare = {name: t for name, t in tensors.items() if not name.startswith(HEADS_PREFIX)}
    save_file(bare, folder / WEIGHTS_FILE)
    (folder / SCORES_FILE).write_text(json.dumps({"sha256": sha256(folder / WEIGHTS_FILE)}))
    backbone = ScenesVL.build(ScenesVLConfig(), weights=str(folder))
    assert backbone.source_task(("image", "text")) is None


def finished(output: Path, open_test: bool = True) -> Record:
    options = RunOptions(output, "off", -1, open_test=open_test)
    return run(configured("mp_ismoe", "vqa"), options)


def test_a_run_records_it_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = finished(tmp_path / "measured")
    assert measured.status == "done"
    assert measured.quality.forgetting is not None
    monkeypatch.setattr("harness.runner.forgetting", lambda *_: None)
    plain = finished(tmp_path / "plain")
    assert plain.quality.forgetting is None
    cores = measured.core(), plain.core()
    for core in cores:
        del core["quality"]["forgetting"]
    assert cores[0] == cores[1]


def test_a_run_that_leaves_the_test_split_shut_asks_nothing(tmp_path: Path) -> None:
    record = finished(tmp_path, open_test=False)
    assert record.status == "done"
    assert record.quality.forgetting is None
