"""What the run offers to a method's hooks while it is being fitted."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from harness.config import RunConfig
from harness.data import Examples, sequential
from harness.memory.tracker import MemoryTracker
from harness.model import AdaptedModel
from harness.precision import autocast
from methods.base import Batch
from tasks.base import Task

CALIBRATION_STREAM = 1
CALIBRATION_BATCH = 64


class Context:
    """The run's side of ``methods.base.FitContext``.

    Args:
        config: the run's configuration.
        task: gives the loss.
        model: the adapted model.
        examples: the data.

    Attributes:
        phase_peak_bytes: the highest traced total of each phase that a method named.
        phase_seconds: the time that each of them took.
    """

    def __init__(
        self, config: RunConfig, task: Task, model: AdaptedModel, examples: Examples
    ) -> None:
        self.generator = torch.Generator().manual_seed(config.seed)
        self.epochs = config.train.epochs
        self.device = examples.device
        self.phase_peak_bytes: dict[str, int] = {}
        self.phase_seconds: dict[str, float] = {}
        self._config = config
        self._model = model
        self._task = task
        self._examples = examples

    def calibration(self, n: int) -> Iterator[Batch]:
        """Yield batches of ``n`` training rows in all: the same rows in every call of a run.

        No text of a batch is padded, so that what is measured is of real tokens.
        """
        total = len(self._examples.split("train"))
        generator = np.random.default_rng((self._config.seed, CALIBRATION_STREAM))
        for rows in self._examples.alike("train", generator.permutation(total)[:n]):
            for part in sequential(len(rows), CALIBRATION_BATCH):
                yield self._examples.batch("train", rows[part])

    def loss(self, batch: Batch) -> Tensor:
        """Return the task's loss of the adapted model on ``batch``."""
        with autocast(self.device, self._config.train):
            return self._task.loss(self._model(batch.inputs), batch.targets)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the enclosed work's time and traced peak memory to ``name``."""
        start = time.perf_counter()
        if self._config.memory.profile:
            tracker = MemoryTracker(self._model, self._model.regions(), device=self.device)
            with tracker, tracker.phase(name):
                yield
            peak = tracker.phase_peak_bytes[name]
            self.phase_peak_bytes[name] = max(peak, self.phase_peak_bytes.get(name, 0))
        else:
            yield
        elapsed = time.perf_counter() - start
        self.phase_seconds[name] = self.phase_seconds.get(name, 0.0) + elapsed
