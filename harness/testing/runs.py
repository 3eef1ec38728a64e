"""Runs that take seconds: a small bundled backbone, and an interruption as a user makes it."""

from typing import Any

import pytest

from harness.config import RunRequest
from harness.loop import Trainer
from harness.paper_step import StepRequest
from harness.testing.small import SMALL_BACKBONES


def small_request(method: str, *overrides: str, task: str = "vqa", **fields: Any) -> RunRequest:
    """Return a request for a run on few rows with ``scenes_vl`` made small, on one thread.

    Args:
        method: its name.
        *overrides: ``section.field=value``, over the small ones.
        task: the task's name.
        **fields: of ``RunRequest``.
    """
    sizes = [f"backbone.{name}={value}" for name, value in SMALL_BACKBONES["scenes_vl"].items()]
    train = ["train.threads=1", "train.batch_size=16", "train.eval_batch_size=32"]
    values = {"weights": "random", "limit": 32, **fields}
    return RunRequest(method=method, task=task, overrides=(*sizes, *train, *overrides), **values)


def small_step(method: str, backbone: str, *overrides: str, batch_size: int = 3) -> StepRequest:
    """Return a paper's step, cut to few rows and tokens, on a backbone made small."""
    sizes = [
        f"backbone.{name}.{field}={value}" if isinstance(held, dict) else f"backbone.{name}={held}"
        for name, held in SMALL_BACKBONES[backbone].items()
        for field, value in (held.items() if isinstance(held, dict) else [("", None)])
    ]
    return StepRequest(
        method,
        backbone,
        batch_size=batch_size,
        source_length=6,
        target_length=3,
        overrides=(*sizes, *overrides),
        amp="off",
    )


def interrupt_at(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Make training stop as Ctrl-C does, at the start of ``epoch`` (0-based)."""
    train_epoch = Trainer._train_epoch

    def stop(trainer: Trainer, number: int) -> float:
        if number == epoch:
            raise KeyboardInterrupt
        return train_epoch(trainer, number)

    monkeypatch.setattr(Trainer, "_train_epoch", stop)
