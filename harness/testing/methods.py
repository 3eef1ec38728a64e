"""Small parts for testing methods: a model with a head, a training step, a fit context."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, Inputs
from harness.cards import METHODS
from harness.testing.backbones import TinyBackbone, TinyConfig
from methods.base import Batch, Method


def build_method(
    name: str,
    backbone: Backbone | None = None,
    reads: Sequence[str] = ("joint",),
    seed: int = 0,
    **settings: Any,
) -> Method:
    """Build a registered method.

    Args:
        name: ``method`` or ``method@preset``.
        backbone: the model to adapt; None for a ``TinyBackbone`` of width 32.
        reads: the streams that a head would read.
        seed: seed of the global generator while the method is built.
        **settings: fields of the method's configuration.
    """
    choice = METHODS.choose(name)
    config = choice.card.config(**{**choice.values, **settings})
    if backbone is None:
        backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = METHODS.load(choice.card.name)(config, backbone, reads)
    assert isinstance(method, Method)
    return method


class ProbedModel(nn.Module):
    """A method with a linear head of three outputs on each stream's output and salient token.

    Args:
        method: the adapted model.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        widths = {name: method.backbone.spec(name).width for name in method.reads}
        self.heads = nn.ModuleDict({name: nn.Linear(w, 3) for name, w in widths.items()})

    def forward(self, inputs: Inputs) -> Tensor:
        """Return [B, 3], a sum over the streams that the method's head would read."""
        states = self.method(inputs)
        per_stream = [
            head(states[name].output.mean(1) + states[name].salient)
            for name, head in self.heads.items()
        ]
        return torch.stack(per_stream).sum(0)

    def loss(self, inputs: Inputs) -> Tensor:
        """Return a scalar loss, with the method's own term."""
        return self.loss_of(self(inputs))

    def loss_of(self, output: Tensor) -> Tensor:
        """Return the loss of an output [B, 3]."""
        loss = output.float().square().mean()
        extra = self.method.extra_loss()
        return loss if extra is None else loss + extra

    def trained(self) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups."""
        return [*self.method.param_groups(), {"params": list(self.heads.parameters())}]


def train_steps(model: ProbedModel, inputs: Inputs, steps: int = 1, lr: float = 1e-2) -> None:
    """Train some steps on one batch with AdamW."""
    optimizer = torch.optim.AdamW(model.trained(), lr=lr)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        model.loss(inputs).backward()
        optimizer.step()


class TinyContext:
    """A ``FitContext`` whose calibration rows are one batch, repeated.

    Args:
        model: gives the loss.
        inputs: the batch.
        epochs: how many epochs a method is told of.

    Attributes:
        phases: names of the phases that the method entered, in order.
    """

    def __init__(self, model: ProbedModel, inputs: Inputs, epochs: int = 2) -> None:
        self.model = model
        self.inputs = inputs
        self.epochs = epochs
        self.generator = torch.Generator().manual_seed(0)
        self.device = torch.device("cpu")
        self.phases: list[str] = []

    def calibration(self, n: int) -> Iterator[Batch]:
        """Yield the batch until ``n`` rows have come."""
        rows = len(next(iter(self.inputs.values())))
        for _ in range(-(-n // rows)):
            yield Batch(self.inputs, {}, torch.arange(rows))

    def loss(self, batch: Batch) -> Tensor:
        """Return the model's loss on ``batch``."""
        return self.model.loss(batch.inputs)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Note the phase's name."""
        self.phases.append(name)
        return nullcontext()


def snapshot(module: nn.Module) -> Mapping[str, Tensor]:
    """Return copies of all parameters and buffers."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
