"""Linear layers of several experts, each on its own consecutive rows."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from harness.values import has_values

ALIGNMENT = 8
"""``grouped_mm`` wants rows of a multiple of 16 bytes: 8 numbers in bf16."""
BLOCK_ROWS = 64
MANY_ROWS = 512
"""A group of fewer rows has too few sizes to be worth dividing."""


@torch.compiler.disable  # shapes follow the data, and the fake kernel knows half precision alone
def grouped_linear(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """Multiply consecutive groups of rows by their expert's weight.

    Args:
        x: [T, I], rows of expert 0 first.
        weight: [E, I, O].
        offsets: [E] int32, the end of every expert's rows; the last is T.

    Returns:
        [T, O], in autocast's dtype or that of ``x``.
    """
    dtype = _compute_dtype(x)
    outputs = weight.shape[2]
    inner, outer = -x.shape[1] % ALIGNMENT, -outputs % ALIGNMENT
    x, weight = x.to(dtype), weight.to(dtype)
    if inner or outer:
        x, weight = F.pad(x, (0, inner)), F.pad(weight, (0, outer, 0, inner))
    return GroupedProduct.apply(x, weight, offsets)[:, :outputs]


class GroupedProduct(torch.autograd.Function):
    """``grouped_mm`` of x [T, I] and weight [E, I, O] with its gradients.

    The same as PyTorch's own, but that it also works on tensors without data in every dtype: their
    ``grouped_mm`` knows half precision alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
        """Return [T, O]."""
        ctx.save_for_backward(x, weight, offsets)
        return _grouped_mm(x, weight, offsets, (x.shape[0], weight.shape[2]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients [T, I] and [E, I, O]."""
        x, weight, offsets = ctx.saved_tensors
        gradient = gradient.contiguous()  # an expanded one is refused
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _grouped_mm(gradient, weight.transpose(1, 2), offsets, tuple(x.shape))
        if ctx.needs_input_grad[1]:
            to_weight = _grouped_mm(x.T, gradient, offsets, tuple(weight.shape))
        return to_x, to_weight, None


def _grouped_mm(a: Tensor, b: Tensor, offsets: Tensor, shape: tuple[int, ...]) -> Tensor:
    if not has_values(a):
        return a.new_empty(shape)
    rows = a.shape[0] if b.dim() == 3 else a.shape[1]
    compiled = a.device.type == "cpu" and a.dtype == torch.bfloat16
    if compiled and rows >= MANY_ROWS * len(offsets):
        return _in_blocks(a, b, offsets, a.new_empty(shape))
    return F.grouped_mm(a, b, offs=offsets)


def _in_blocks(a: Tensor, b: Tensor, offsets: Tensor, out: Tensor) -> Tensor:
    """Compute ``grouped_mm`` by products of few different sizes, into ``out``.

    On CPU, a product in bf16 is compiled for its sizes; those of the groups are new at every step,
    and compiling takes up to ten times as long as computing. So every group is a whole number of
    blocks, and what remains.

    Args:
        a: [T, I], or [I, T] where ``b`` is two-dimensional.
        b: [E, I, O], or [T, O].
        offsets: [E] int32, the end of every group in T.
        out: [T, O], or [E, I, O].
    """
    start = 0
    for group, end in enumerate(offsets.tolist()):
        whole = end - (end - start) % BLOCK_ROWS
        if b.dim() == 3:
            torch.mm(a[start:whole], b[group], out=out[start:whole])
            torch.mm(a[whole:end], b[group], out=out[whole:end])
        else:
            torch.mm(a[:, start:whole], b[start:whole], out=out[group])
            out[group].addmm_(a[:, whole:end], b[whole:end])
        start = end
    return out


def _compute_dtype(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
