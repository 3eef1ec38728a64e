"""The training loop. It knows the contracts of methods and tasks, and never names one."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from harness.cards import TASKS
from harness.checkpoint import (
    Tensors,
    generator_tensors,
    load_generators,
    load_optimizer,
    optimizer_tensors,
    prefixed,
    unprefixed,
)
from harness.config import RunConfig, TrainConfig
from harness.data import Examples, Order, sequential
from harness.distinct import encode_once, meeting_order, read_ahead
from harness.errors import RunError
from harness.features import FeatureStore
from harness.generation import generate
from harness.model import AdaptedModel
from harness.optimizers import make_optimizer
from harness.precision import autocast
from harness.progress import Progress
from harness.record import Epoch
from methods.base import Batch, FitContext
from tasks.base import Task, Writer

CHECK_EVERY = 50


@dataclass
class State:
    """Where a run stands, beside the model's and the optimizer's own state.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done.
        best: the best validation score so far and the epoch that reached it.
        best_tensors: the model's state at that epoch.
    """

    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    history: list[Epoch] = field(default_factory=list)
    best_tensors: Tensors = field(default_factory=dict)
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    step_seconds: list[float] = field(default_factory=list)


class Trainer:
    """Trains one adapted model on one task.

    Args:
        config: the run's configuration.
        task: gives loss and metrics.
        model: the adapted model, on its device.
        examples: the data, bound to the model's backbone.
        features: the store of frozen features, or None to run the backbone in every step.
        context: what the method's hooks may ask for.
        progress: what the user sees.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        model: AdaptedModel,
        examples: Examples,
        features: FeatureStore | None,
        context: FitContext,
        progress: Progress,
    ) -> None:
        self.config = config
        self.task = task
        self.model = model
        self.examples = examples
        self.features = features
        self.context = context
        card = TASKS.card(config.task.name)
        self.primary = card.primary
        self.sign = 1.0 if card.metrics[card.primary] == "max" else -1.0
        self.progress = progress
        train = config.train
        self.order = Order(len(examples.split("train")), train.batch_size, config.seed)
        self.steps = self.order.steps * train.epochs
        self.optimizer = make_optimizer(model, train)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, rate_schedule(train, self.steps)
        )
        self.state = State()

    def fit(self, save: Callable[[], None]) -> None:
        """Train to the last epoch; ``save`` is called after each one.

        Raises:
            RunError: the loss is no longer finite.
        """
        if self.state.epoch == 0:
            self.progress.phase("init")
            self.model.on_fit_start(self.context)
            self._refresh_features()
        train = self.config.train
        self.progress.start(
            train.epochs, self.order.steps, train.batch_size, self.primary, self.state.epoch
        )
        for epoch in range(self.state.epoch, self.config.train.epochs):
            start = time.perf_counter()
            self.model.method.on_epoch_start(self.context, epoch)
            self._refresh_features()
            loss = self._train_epoch(epoch)
            trained = time.perf_counter()
            _, scores = self.evaluate("val")
            done = time.perf_counter()
            self.state.train_seconds += trained - start
            self.state.eval_seconds += done - trained
            self._close_epoch(epoch, loss, scores, done - start)
            save()

    def _train_epoch(self, epoch: int) -> float:
        """Run one epoch's steps and return the mean loss."""
        self.model.train()
        steps = [
            [part for part in np.array_split(rows, self.config.train.grad_accum) if len(part)]
            for rows in self.order.epoch(epoch)
        ]
        if self.features is None:
            self.examples.read_ahead("train", [part for parts in steps for part in parts])
        total = torch.zeros((), device=self.examples.device)
        clock = StepClock(self.examples.device)
        for number, parts in enumerate(steps, 1):
            loss = self._step(parts)
            total += loss
            clock.tick()
            if number % CHECK_EVERY == 0 or number == self.order.steps:
                mean = float(total) / number
                self._check_finite(mean, epoch)
                self.progress.step(mean)
            else:
                self.progress.step(None)
        self.state.step_seconds += clock.seconds()
        return mean

    def _step(self, parts: Sequence[np.ndarray]) -> Tensor:
        """Run one optimizer step on rows, part by part, and return its detached loss."""
        total: Tensor | None = None
        for part in parts:
            share = len(part) / sum(map(len, parts))
            loss = self.loss_of("train", part)
            (loss * share if len(parts) > 1 else loss).backward()
            total = loss.detach() * share if total is None else total + loss.detach() * share
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, self.config.train.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        assert total is not None
        return total

    def loss_of(self, split: str, rows: np.ndarray) -> Tensor:
        """Return the loss on ``rows`` with its graph."""
        output, batch = self._forward(split, rows)
        with self.autocast():
            return training_loss(self.task, self.model, output, batch.targets)

    def _forward(self, split: str, rows: np.ndarray) -> tuple[Tensor, Batch]:
        batch = self.examples.batch(split, rows, inputs=self.features is None)
        with self.autocast():
            if self.features is None:
                return self.model(batch.inputs), batch
            return self.model.from_states(self.features.states(split, rows)), batch

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the precision context of the forward pass."""
        return autocast(self.examples.device, self.config.train)

    @torch.no_grad()
    def evaluate(self, split: str) -> tuple[np.ndarray, dict[str, float]]:
        """Return predictions and metrics for all rows of ``split``."""
        self.model.eval()
        rows = self.examples.split(split)
        specs = self.model.method.specs
        order = meeting_order(rows, specs)
        parts = [order[part] for part in sequential(len(rows), self.config.train.eval_batch_size)]
        if self.features is None and not self.task.writes:
            read_ahead(self.examples, split, specs, parts)
        answer = self._written if self.task.writes else self._answered
        predictions = [self.task.predict(answer(split, part)).cpu().numpy() for part in parts]
        merged = np.concatenate(predictions)[np.argsort(order)]
        return merged, self.task.metrics(merged, rows)

    def _answered(self, split: str, rows: np.ndarray) -> Tensor:
        """Return the head's output for ``rows``."""
        with self.autocast():
            if self.features is None:
                states = encode_once(self.model.method, self.examples, split, rows)
            else:
                states = self.features.states(split, rows)
            return self.model.from_states(states)

    def _written(self, split: str, rows: np.ndarray) -> Tensor:
        """Return what the backbone writes about ``rows``, as the head reads it [B]."""
        head = cast(Writer, self.model.head)
        inputs = self.examples.batch(split, rows, leave_out=("target",)).inputs
        with self.autocast():
            method, length = self.model.method, head.tokens.shape[1]
            return head.read(generate(method, inputs, head.score, head.pad, length))

    def _close_epoch(
        self, epoch: int, loss: float, scores: dict[str, float], seconds: float
    ) -> None:
        """Write the history's row and keep the best state."""
        state = self.state
        state.epoch = epoch + 1
        row = Epoch(
            epoch=epoch + 1,
            step=state.step,
            loss=loss,
            val=scores,
            lr=float(self.optimizer.param_groups[0]["lr"]),
            seconds=seconds,
            **self.model.method.statistics(),
        )
        state.history.append(row)
        score = scores[self.primary]
        if state.best is None or self.sign * score > self.sign * state.best:
            state.best, state.best_epoch = score, epoch + 1
            state.best_tensors = self.model.fitted_tensors()
        self.progress.epoch(row)

    def _check_finite(self, loss: float, epoch: int) -> None:
        if not np.isfinite(loss):
            raise RunError(
                "diverged",
                f"the loss became {loss} in epoch {epoch + 1} (learning rate "
                f"{self.optimizer.param_groups[0]['lr']:g}); try a smaller train.lr",
            )

    def _load_model_tensors(self, tensors: Tensors) -> None:
        self.model.load_fitted(tensors)
        self._refresh_features()

    def _refresh_features(self) -> None:
        if self.features is not None:
            self.features.refresh()

    def load_best(self) -> None:
        """Give the model the state of the best epoch."""
        self._load_model_tensors(self.state.best_tensors)

    def checkpoint(self) -> tuple[Tensors, dict[str, Any]]:
        """Return everything that ``restore`` needs: tensors and a JSON-ready part."""
        state = self.state
        tensors = {
            **prefixed("model", self.model.fitted_tensors()),
            **prefixed("best", state.best_tensors),
            **prefixed("optimizer", optimizer_tensors(self.optimizer)),
            **prefixed("generator", generator_tensors(self.context.generator)),
        }
        return tensors, {
            "epoch": state.epoch,
            "step": state.step,
            "best": state.best,
            "best_epoch": state.best_epoch,
            "history": [row.model_dump(mode="json") for row in state.history],
            "train_seconds": state.train_seconds,
            "eval_seconds": state.eval_seconds,
            "step_seconds": state.step_seconds,
            "scheduler": self.scheduler.last_epoch,
        }

    def restore(self, tensors: Tensors, saved: dict[str, Any]) -> None:
        """Go back to where ``checkpoint`` was taken."""
        self._load_model_tensors(unprefixed("model", tensors))
        load_optimizer(self.optimizer, unprefixed("optimizer", tensors))
        load_generators(self.context.generator, unprefixed("generator", tensors))
        self.scheduler.load_state_dict(
            {**self.scheduler.state_dict(), "last_epoch": saved["scheduler"]}
        )
        for group, base in zip(self.optimizer.param_groups, self.scheduler.base_lrs, strict=True):
            factor = rate_schedule(self.config.train, self.steps)(saved["scheduler"])
            group["lr"] = base * factor
        self.state = State(
            epoch=saved["epoch"],
            step=saved["step"],
            best=saved["best"],
            best_epoch=saved["best_epoch"],
            history=[Epoch(**row) for row in saved["history"]],
            best_tensors=unprefixed("best", tensors),
            train_seconds=saved["train_seconds"],
            eval_seconds=saved["eval_seconds"],
            step_seconds=saved["step_seconds"],
        )


class StepClock:
    """Times steps without synchronising a GPU until the end of an epoch.

    Args:
        device: where the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self._marks: list[Any] = []
        self._mark()

    def _mark(self) -> None:
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def tick(self) -> None:
        """Mark the end of a step."""
        self._mark()

    def seconds(self) -> list[float]:
        """Return the duration of each step."""
        pairs: Sequence[tuple[Any, Any]] = list(zip(self._marks[:-1], self._marks[1:], strict=True))
        if self.cuda:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) / 1000 for a, b in pairs]
        return [b - a for a, b in pairs]


def training_loss(
    task: Task, model: AdaptedModel, output: Tensor, targets: Mapping[str, Tensor]
) -> Tensor:
    """Return the task's loss of the head's ``output``, with what the method adds to it."""
    loss = task.loss(output, targets)
    extra = model.method.extra_loss()
    return loss if extra is None else loss + extra


def rate_schedule(train: TrainConfig, steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate by step: linear warm-up, then the schedule."""
    warmup = round(train.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if train.schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return 1.0 - done if train.schedule == "linear" else 0.5 * (1 + float(np.cos(np.pi * done)))

    return factor
