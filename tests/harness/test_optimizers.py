"""Every optimizer keeps the laws: its bytes are counted and predicted, and a run can be resumed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from harness.checkpoint import (
    load_optimizer,
    load_tensors,
    load_trained,
    optimizer_tensors,
    save_tensors,
    trained_tensors,
)
from harness.compatibility import OPTIMIZER_PACKAGES
from harness.config import Optimizer, RunRequest, TrainConfig, resolve
from harness.errors import ConfigError
from harness.memory.measure import measure
from harness.memory.step import StepProgram
from harness.memory.tracker import MemoryTracker
from harness.optimizers import optimizer_of
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.methods import ProbedModel, build_method
from harness.testing.runs import interrupt_at, small_request


def _needing_its_package(name: str) -> Any:
    package = OPTIMIZER_PACKAGES.get(name)
    missing = package is not None and find_spec(package) is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"needs {package}"))


OPTIMIZERS = [_needing_its_package(name) for name in get_args(Optimizer)]


def model_and_optimizer(name: str, seed: int = 0) -> tuple[ProbedModel, torch.optim.Optimizer]:
    backbone = TinyBackbone.build(TinyConfig(width=64, depth=1))
    model = ProbedModel(build_method("full", backbone, ("text",), seed=seed)).train()
    return model, optimizer_of(model.trained(), TrainConfig(optimizer=name, lr=1e-3))


def step(model: ProbedModel, optimizer: torch.optim.Optimizer) -> None:
    model.loss(tiny_inputs(model.method.backbone)).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def state_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Return what the tracker counts as the optimizer's state."""
    with MemoryTracker(model, {"side": model}, optimizer=optimizer) as tracker:
        return tracker.current_bytes["optimizer_state"]


def bytes_of_one_matrix(name: str) -> int:
    """Return the bytes of the state for one weight of 256 x 256."""
    layer = nn.Linear(256, 256, bias=False)
    optimizer = optimizer_of([{"params": [layer.weight]}], TrainConfig(optimizer=name))
    layer(torch.ones(1, 256)).sum().backward()
    optimizer.step()
    return state_bytes(layer, optimizer)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_tracker_counts_every_byte_of_the_state(name: str) -> None:
    model, optimizer = model_and_optimizer(name)
    step(model, optimizer)
    counters = sum(
        value.nbytes
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim == 0
    )
    moments = sum(t.nbytes for t in optimizer_tensors(optimizer).values() if t.ndim > 0)
    assert state_bytes(model, optimizer) == moments + counters


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_its_step_is_predicted_to_the_byte(name: str) -> None:
    model, _ = model_and_optimizer(name)
    method = model.method
    inputs = tiny_inputs(method.backbone)
    train = TrainConfig(optimizer=name)
    report = measure(
        StepProgram(
            model=model,
            regions={"backbone": method.backbone, "side": method, "head": model.heads},
            make_batch=lambda: inputs,
            output=lambda m, batch: m(batch),
            loss=lambda m, output, batch: m.loss_of(output),
            make_optimizer=lambda m: optimizer_of(m.trained(), train),
            clip_norm=1.0,
        )
    )
    assert report.predicted_train_peak_bytes == report.traced_train_peak_bytes


@pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")
def test_eight_bit_moments_take_about_a_quarter() -> None:
    count = 256 * 256
    scales, levels, step = 4 * count // 256, 4 * 256, 4
    assert bytes_of_one_matrix("adamw") == 8 * count + step
    assert bytes_of_one_matrix("adamw_8bit") == 2 * (count + scales + levels) + step


def test_a_factored_second_moment_takes_a_row_and_a_column() -> None:
    assert bytes_of_one_matrix("adafactor") == 4 * (256 + 256) + 4


@pytest.mark.skipif(find_spec("pytorch_optimizer") is None, reason="needs pytorch-optimizer")
def test_moments_of_low_rank_gradients_are_low_rank() -> None:
    projection = moment = 4 * 8 * 256  # of rank 8
    assert bytes_of_one_matrix("galore") == projection + 2 * moment


@pytest.mark.skipif(find_spec("pytorch_optimizer") is None, reason="needs pytorch-optimizer")
def test_an_update_lies_in_the_space_of_its_gradients_first_directions() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(32, 16))
    optimizer = optimizer_of([{"params": [weight]}], TrainConfig(optimizer="galore"))
    weight.grad = torch.randn(32, 16)
    directions = torch.linalg.svd(weight.grad)[2][:8]  # [8, 16]
    optimizer.step()
    assert torch.linalg.matrix_rank(weight.detach()) == 8
    inside = weight.detach() @ directions.T @ directions
    assert torch.allclose(inside, weight.detach(), atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_optimizer_goes_on_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer(name)
    step(model, optimizer)
    save_tensors(tmp_path / "state.safetensors", optimizer_tensors(optimizer), {})
    copy, fresh = model_and_optimizer(name, seed=1)
    load_trained(copy, trained_tensors(model))
    load_optimizer(fresh, load_tensors(tmp_path / "state.safetensors")[0])
    for _ in range(2):
        step(model, optimizer)
        step(copy, fresh)
    after, expected = trained_tensors(copy), trained_tensors(model)
    assert all(torch.equal(after[n], expected[n]) for n in expected)


@pytest.mark.parametrize("name", [p for p in OPTIMIZERS if p.values != ("adamw",)])
def test_resumed_equals_uninterrupted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("train.epochs=2", "memory.profile=false", f"train.optimizer={name}")
    config = resolve(small_request("linear_probe", *small))
    whole = run(config, RunOptions(tmp_path / "whole", "off", -1))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        run(config, RunOptions(tmp_path / "parts", "off", -1))
    resumed = run(config, RunOptions(tmp_path / "parts", "off", -1))
    assert whole.status == "done"
    assert resumed.core() == whole.core()
    assert whole.config["train"]["optimizer"] == name


def test_a_missing_package_is_named_before_anything_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.compatibility.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'metl-harness\[optimizers\]'"):
        resolve(RunRequest(method="lst", task="vqa", overrides=("train.optimizer=adamw_8bit",)))
