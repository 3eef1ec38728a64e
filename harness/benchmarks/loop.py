"""The training loop and a bare PyTorch loop, side by side on one model and the same tensors."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.bare_trainer import bare_trainer
from harness.benchmarks.timing import duel
from harness.config import RunRequest, resolve
from harness.features import FeatureStore
from harness.optimizers import make_optimizer
from harness.precision import autocast, settle_precision
from methods.base import SideMethod

REQUEST = RunRequest(
    method="mp_ismoe",
    task="vqa",
    overrides=("train.schedule=constant", "memory.profile=false"),
    device="cpu",
    limit=3200,
)
SPLIT = "train"
PAIRS = 15


def measure() -> dict[str, Any]:
    """Return how much slower an epoch of the harness's loop is than one of a bare loop."""
    with tempfile.TemporaryDirectory() as folder:
        contest = Contest(Path(folder))
        return {
            "steps": contest.steps,
            **duel(contest.harness_epoch, contest.bare_epoch, PAIRS),
        }


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the overhead."""
    low, high = (100 * (bound - 1) for bound in figures["ratio_interval"])
    yield (
        f"{100 * (figures['ratio'] - 1):+.2f} % over a bare PyTorch loop, "
        f"95 % interval {low:+.2f} .. {high:+.2f} % ({figures['pairs']} pairs of epochs)"
    )


class Contest:
    """One model, trained by either loop; both read stored features.

    Args:
        folder: where the features may be stored.

    Attributes:
        steps: optimizer steps of one epoch.
    """

    def __init__(self, folder: Path) -> None:
        device = torch.device(REQUEST.device)
        config = self.config = settle_precision(resolve(REQUEST), device)
        torch.set_num_threads(config.train.threads)
        trainer = self.trainer = bare_trainer(config, device)
        self.task, self.model, self.examples = trainer.task, trainer.model, trainer.examples
        self.precision = lambda: autocast(device, config.train)
        self.model.method.on_fit_start(trainer.context)
        assert isinstance(self.model.method, SideMethod)
        self.features = FeatureStore(
            folder,
            config.features.max_bytes,
            self.model.method,
            self.examples,
            self.precision,
            {},
        )
        trainer.features = self.features
        self.steps = trainer.order.steps
        self.optimizer = make_optimizer(self.model, config.train)
        self.scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.features.states(SPLIT, np.arange(1))  # fills the store
        self._bind()

    def _bind(self) -> None:
        """Take hold of the stored tensors and of every row's place in them."""
        rows = np.arange(len(self.examples.split(SPLIT)))
        self.bound = [
            (
                spec,
                self.features.entry(spec, SPLIT),
                torch.from_numpy(self.features.positions(spec, SPLIT, rows)),
            )
            for spec in self.features.method.specs
        ]
        self.targets = self.examples.targets(SPLIT, rows)

    def harness_epoch(self) -> None:
        """Train as the harness does."""
        self.trainer._train_epoch(0)

    def bare_epoch(self) -> None:
        """Train as a script would: gather, forward, backward, clip, step."""
        train, method = self.config.train, self.features.method
        self.model.train()
        order = torch.randperm(len(self.examples.split(SPLIT)))
        for rows in order.split(train.batch_size)[: self.steps]:
            states = {
                spec.name: entry.state(index[rows], spec, method, self.examples.device, trim=False)
                for spec, entry, index in self.bound
            }
            with self.precision():
                output = self.model.from_states(states)
                targets = {name: value[rows] for name, value in self.targets.items()}
                loss = self.task.loss(output, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, train.clip_norm)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad(set_to_none=True)
        loss.item()
