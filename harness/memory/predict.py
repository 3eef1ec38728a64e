"""Predict the memory of a step without running it: the same protocol on fake tensors.

A fake tensor has a shape, a type and a device but no data, so a step of a model of any size takes
seconds and no memory. The tracker cannot tell the difference; what it counts is what a real step's
tensors take. Kernel workspace is not predicted.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import nn
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import (
    FakeCopyMode,
    FakeTensor,
    unset_fake_temporarily,
)
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from harness.memory.cuda import cuda_sizes
from harness.memory.repeated import RepeatingFakeMode
from harness.memory.report import MemoryReport
from harness.memory.step import StepProgram, old_objects_aside, run_protocol, train_peak_bytes

T = TypeVar("T")
CPU = torch.device("cpu")


def predict(program: StepProgram, *, target: str = "cpu") -> MemoryReport:
    """Predict the memory of a program whose model exists, from a fake copy of it.

    Neither the model nor PyTorch's random state is touched. The sizes of all tensors must follow
    from shapes alone: code that reads values (``.item()``, boolean indexing) fails on fake tensors.

    Args:
        program: the step to predict.
        target: ``"cpu"`` or ``"cuda"``, the device to predict for.

    Returns:
        The report, with ``source`` ``"predicted"``.
    """
    with _on_fake_copy(program) as fake:
        return _run(fake, target, _device_of(fake))


def predict_train_peak(program: StepProgram, *, target: str = "cpu") -> int:
    """Predict only the peak of training, in bytes: half the work of :func:`predict`."""
    with _on_fake_copy(program) as fake, _sizes_of(target):
        return train_peak_bytes(_prepared(fake, target), device=_device_of(fake))


def predict_built(build: Callable[[], StepProgram], *, target: str = "cpu") -> MemoryReport:
    """Predict the memory of a program that is built here, on fake tensors from the start.

    Args:
        build: returns the program; it builds the model from a configuration, without weights, on
            the CPU: a build of PyTorch without CUDA aborts on fake CUDA tensors.
        target: ``"cpu"`` or ``"cuda"``, as for :func:`predict`.
    """
    with _fake_world():
        return _run(_built(build), target, CPU)


def predict_built_peak(build: Callable[[], StepProgram], *, target: str = "cpu") -> int:
    """Predict only the peak of training, in bytes, of a program that is built here."""
    with _fake_world(), _sizes_of(target):
        return train_peak_bytes(_prepared(_built(build), target), device=CPU)


def fake_copy(value: T) -> T:
    """Return a nest of tensors as fake ones; only while a program is built or predicted."""
    mode = active_fake_mode()
    assert mode is not None
    with FakeCopyMode(mode):
        return copy.deepcopy(value)


@contextmanager
def _fake_world() -> Iterator[None]:
    """Make fake tensors only, and leave PyTorch's random state alone."""
    with old_objects_aside(), torch.random.fork_rng(devices=[]), RepeatingFakeMode():
        yield


def _built(build: Callable[[], StepProgram]) -> StepProgram:
    with KnownNumbers(), _nothing_moves():
        return build()


class KnownNumbers(TorchFunctionMode):
    """Let code that builds a model read numbers of its own: of a range, or a drawn seed.

    These are real, as is what is made of real tensors alone.
    """

    OWN = (torch.linspace, torch.randint)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        real = tensors and not any(isinstance(tensor, FakeTensor) for tensor in tensors)
        if real or func in self.OWN:
            with unset_fake_temporarily():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def _nothing_moves() -> Iterator[None]:
    """Leave modules where they are built: parameters that are fake cannot be exchanged."""
    with patch.object(nn.Module, "to", lambda module, *_args, **_kwargs: module):
        yield


@contextmanager
def _on_fake_copy(program: StepProgram) -> Iterator[StepProgram]:
    """Copy model and batch to fake tensors, and stay in their mode."""
    mode = RepeatingFakeMode()
    original = (program.model, dict(program.regions), program.make_batch())
    with old_objects_aside():
        with FakeCopyMode(mode):
            model, regions, batch = copy.deepcopy(original)
        with mode:
            yield replace(program, model=model, regions=regions, make_batch=lambda: batch)


def _device_of(program: StepProgram) -> torch.device:
    """Return what the program's fake tensors say that they are on: where the real ones are."""
    return next(program.model.parameters()).device


def _run(program: StepProgram, target: str, device: torch.device) -> MemoryReport:
    with _sizes_of(target):
        report = run_protocol(_prepared(program, target), device=device, source="predicted")
    return replace(report, device=target)


def _sizes_of(target: str) -> AbstractContextManager[Any]:
    """Make operations keep what the target's kernels keep."""
    return nullcontext() if target == "cpu" else cuda_sizes()


def _prepared(program: StepProgram, target: str) -> StepProgram:
    """Give the program the optimizer's implementation that is the target's default."""
    if target == "cpu":
        return program
    return replace(program, make_optimizer=lambda model: _foreach(program, model))


def _foreach(program: StepProgram, model: nn.Module) -> Optimizer:
    optimizer = program.make_optimizer(model)
    for group in optimizer.param_groups:
        if group.get("foreach", False) is None and not group.get("fused"):
            group["foreach"] = True
    return optimizer
