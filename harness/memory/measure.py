"""Measure the memory of any method on the real model, and leave the model as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from harness.memory.predict import predict_train_peak
from harness.memory.report import MemoryReport
from harness.memory.step import StepProgram, run_protocol


def measure(program: StepProgram, *, prediction: bool = True) -> MemoryReport:
    """Measure real steps of a program by the protocol that every method shares.

    Weights, buffers, gradients, training modes and PyTorch's random state are the same before and
    after; their copies are made before anything is counted and rest in host memory. State that a
    module keeps in other Python attributes is not restored. The optimizer is the program's own new
    one and is thrown away.

    Args:
        program: the step to measure, on the device of its model's parameters.
        prediction: also predict the same step on fake tensors, first.

    Returns:
        The report, with ``source`` ``"allocator"``.

    Raises:
        torch.OutOfMemoryError: the step does not fit the device; the model is restored.
    """
    device = _device_of(program.model)
    predicted = predict_train_peak(program, target=device.type) if prediction else None
    with preserved(program.model):
        return run_protocol(
            program,
            device=device,
            source="allocator",
            predicted_train_peak_bytes=predicted,
        )


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restore trained tensors, buffers, gradients, modes and random state at the end."""
    kept = {
        tensor: tensor.detach().to("cpu", copy=True)
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.requires_grad or not isinstance(tensor, nn.Parameter)
    }
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    modes = {module: module.training for module in model.modules()}
    for parameter in gradients:
        parameter.grad = None
    devices = [device] if (device := _device_of(model)).type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for tensor, value in kept.items():
                tensor.copy_(value)
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        for module, mode in modes.items():
            module.training = mode


def _device_of(model: nn.Module) -> torch.device:
    device = next(model.parameters()).device
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
