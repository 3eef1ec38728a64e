"""The training loop and a bare PyTorch loop, side by side on one model and the same tensors."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from harness.config import RunRequest, resolve
from harness.context import Context
from harness.data import Examples
from harness.features import FeatureStore
from harness.loop import Trainer
from harness.model import build_model, build_task
from harness.optimizers import make_optimizer
from harness.precision import autocast, settle_precision
from harness.progress import SilentProgress
from methods.base import SideMethod

REQUEST = RunRequest(
    method="mp_ismoe",
    task="vqa",
    overrides=("train.schedule=constant", "memory.profile=false"),
    device="cpu",
    limit=3200,
)
SPLIT = "train"


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
        torch.manual_seed(config.seed)
        self.task = build_task(config)
        data = self.task.load(config.limit)
        self.model = build_model(config, self.task, device).model
        self.precision = lambda: autocast(device, config.train)
        self.examples = Examples(data, self.model.method.backbone, device)
        context = Context(config, self.task, self.model, self.examples)
        self.model.method.on_fit_start(context)
        assert isinstance(self.model.method, SideMethod)
        self.features = FeatureStore(
            folder,
            config.features.max_bytes,
            self.model.method,
            self.examples,
            self.precision,
            {},
        )
        self.trainer = Trainer(
            config,
            self.task,
            self.model,
            self.examples,
            self.features,
            context,
            SilentProgress(),
        )
        self.steps = self.trainer.order.steps
        self.optimizer = make_optimizer(self.model, config.train)
        self.scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]

    def warm_up(self) -> None:
        """Fill the store and run each loop once."""
        self.features.states(SPLIT, np.arange(1))
        self._bind()
        self.pair(harness_first=True)

    def pair(self, *, harness_first: bool) -> tuple[float, float]:
        """Return the seconds of one epoch of the harness's loop and of the bare one."""
        if harness_first:
            ours = seconds(self._harness_epoch)
            return ours, seconds(self._bare_epoch)
        bare = seconds(self._bare_epoch)
        return seconds(self._harness_epoch), bare

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

    def _harness_epoch(self) -> None:
        self.trainer._train_epoch(0)

    def _bare_epoch(self) -> None:
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
                output = self.model.from_frozen(states)
                targets = {name: value[rows] for name, value in self.targets.items()}
                loss = self.task.loss(output, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, train.clip_norm)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad(set_to_none=True)
        loss.item()


def seconds(call: Callable[[], None]) -> float:
    """Return the seconds that ``call`` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
