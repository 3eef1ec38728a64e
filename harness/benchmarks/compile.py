"""Compiled steps beside eager ones, of the same method on the same rows."""

from collections.abc import Iterator
from typing import Any

import torch

from harness.bare_trainer import bare_trainer
from harness.benchmarks.timing import bench_device, duel, interval
from harness.clock import seconds
from harness.compilation import check_compiler
from harness.config import RunConfig, RunRequest, resolve
from harness.loop import Trainer

METHODS = ("full", "lst", "mp_ismoe")
LIMIT = 512
PAIRS = 5


def measure() -> dict[str, Any]:
    """Compare an epoch of compiled steps with one of eager steps, without stored features.

    Raises:
        UserError: there is no compiler.
    """
    device = bench_device()
    return {"device": str(device), "methods": {name: _effect(name, device) for name in METHODS}}


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """Yield how long a compiled step takes, and what compiling costs."""
    for name, found in figures["methods"].items():
        yield (
            f"{name} on {figures['device']}: a compiled step takes {interval(found)} times as long "
            f"as an eager one ({found['other_seconds'] / found['steps']:.3f} s); compiling takes "
            f"{found['compile_seconds']:.0f} s"
        )


def _effect(method: str, device: torch.device) -> dict[str, Any]:
    eager, compiled = (_trainer(_config(method, compiled), device) for compiled in (False, True))
    first = seconds(lambda: compiled._train_epoch(0), device)
    found = duel(lambda: compiled._train_epoch(1), lambda: eager._train_epoch(1), PAIRS, device)
    return {"steps": eager.order.steps, "compile_seconds": first - found["seconds"], **found}


def _config(method: str, compiled: bool) -> RunConfig:
    settings = (f"train.compile={str(compiled).lower()}", "train.schedule=constant")
    request = RunRequest(method=method, task="vqa", overrides=settings, amp="off", limit=LIMIT)
    return resolve(request)


def _trainer(config: RunConfig, device: torch.device) -> Trainer:
    """Return a trainer that runs the backbone in every step."""
    check_compiler(config.train, device)
    trainer = bare_trainer(config, device)
    if config.train.compile:
        trainer.model.compile_steps()
    return trainer
