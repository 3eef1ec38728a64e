"""Interrupting a run as a user does."""

import pytest

from harness.loop import Trainer


def interrupt_at(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Make training stop as Ctrl-C does, at the start of ``epoch`` (0-based)."""
    train_epoch = Trainer._train_epoch

    def stop(trainer: Trainer, number: int) -> float:
        if number == epoch:
            raise KeyboardInterrupt
        return train_epoch(trainer, number)

    monkeypatch.setattr(Trainer, "_train_epoch", stop)
