"""The training step of a side method whose backbone's states come out of a store.

The backbone itself need not be there then, which makes a plain host with stored features a rival of
every low-bit backbone in training memory. Inference needs the backbone all the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.backbones.base import Inputs
from harness.cards import PaperStep
from harness.config import RunConfig
from harness.errors import UserError
from harness.memory.predict import predict_built
from harness.memory.report import MemoryReport
from harness.memory.step import StepProgram
from harness.memory.tracker import storages_in
from harness.model import AdaptedModel
from harness.paper_step import StepRequest, checked_step, paper_program
from methods.base import SideMethod, States


@dataclass(frozen=True)
class StoredBatch:
    """Frozen states of all streams, and of the inputs what the loss reads."""

    states: States
    inputs: Inputs


def predict_stored_step(request: StepRequest, target: str = "cuda") -> MemoryReport:
    """Predict the memory of the step; inference is counted without the backbone, too.

    Args:
        request: the step.
        target: ``cuda`` or ``cpu``, whose kernels' saved tensors are counted.

    Raises:
        UserError: a name or a setting is wrong, or the method has no states that can be stored.
    """
    config, shape = checked_step(request)
    return predict_built(lambda: stored_program(config, shape), target=target)


def stored_program(config: RunConfig, shape: PaperStep) -> StepProgram:
    """Build the step on stored states, with what it touches of the backbone and no more.

    Args:
        config: method, backbone and training.
        shape: rows and lengths of the batch.

    Raises:
        UserError: the method runs the backbone in every step.
    """
    program = paper_program(config, shape)
    model = program.model
    assert isinstance(model, AdaptedModel)
    method = model.method
    if not isinstance(method, SideMethod):
        raise UserError(
            f"Method '{config.method.label}' changes the backbone: no states of it can be stored."
        )
    inputs = program.make_batch()
    with program.precision():
        states = method.frozen(inputs)

    def output(model: nn.Module, batch: StoredBatch) -> Any:
        assert isinstance(model, AdaptedModel)
        assert isinstance(model.method, SideMethod)
        adapted = model.method.side(batch.states)
        return model.method.backbone.paper_output(model.head, adapted, model.method.embedded)

    def loss(model: nn.Module, output: Any, batch: StoredBatch) -> Tensor:
        return program.loss(model, output, batch.inputs)

    step = replace(program, make_batch=lambda: batch, output=output, loss=loss)
    touched = _touched_by(lambda: step.forward(StoredBatch(states, inputs)))
    read = {n: t for n, t in inputs.items() if storages_in(t).keys() & touched}
    batch = StoredBatch(states, read)
    _forget_untouched(method.backbone, touched)
    return step


class _Touched(TorchDispatchMode):
    """Notes the storages that operations read."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        self.storages |= storages_in([args, kwargs or {}]).keys()
        return func(*args, **(kwargs or {}))


def _touched_by(call: Callable[[], Any]) -> set[int]:
    """Return the storages that a call reads, by address."""
    with torch.no_grad(), _Touched() as touched:
        call()
    return touched.storages


def _forget_untouched(backbone: nn.Module, touched: set[int]) -> None:
    """Drop the tensors of a backbone that a step does not read, in place."""
    for module in backbone.modules():
        held: Mapping[str, Any] = {**module._parameters, **module._buffers, **vars(module)}
        for name, tensor in held.items():
            frozen = isinstance(tensor, Tensor) and not tensor.requires_grad
            if frozen and not storages_in(tensor).keys() & touched:
                setattr(module, name, None)
