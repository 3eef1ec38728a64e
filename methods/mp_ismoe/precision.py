"""What a model is stored and computed in: Low-Pre and Mixed-Pre (MP-ISMoE, Table 4)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from methods.mp_ismoe import Precision
from methods.quantization.modules import QuantizedEmbedding, QuantizedLinear

HALF = torch.bfloat16


def compute_context(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of a forward pass: bf16 autocast, or what surrounds it (``amp``)."""
    if precision == "amp":
        return nullcontext()
    return torch.autocast(device.type, dtype=HALF)


def hold_in_half(root: nn.Module) -> None:
    """Store all parameters of ``root`` as bf16, in place, and let its layers read and write bf16.

    No fp32 copy is kept. Codes keep their fp32 scales, which belong to the codes.
    """
    for module in root.modules():
        own = [p for p in module.parameters(recurse=False) if p.is_floating_point()]
        for parameter in own:
            parameter.data = parameter.data.to(HALF)
        if own or isinstance(module, QuantizedLinear):
            module.register_forward_pre_hook(_read_half)
        if isinstance(module, QuantizedEmbedding):
            module.register_forward_hook(_write_half)


def _read_half(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_half(x) for x in inputs)


def _write_half(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.to(HALF)


def _half(x: Any) -> Any:
    return x.to(HALF) if isinstance(x, Tensor) and x.is_floating_point() else x
