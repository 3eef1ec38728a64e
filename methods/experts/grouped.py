"""Linear layers of several experts, each on its own consecutive rows."""

import torch
from torch import Tensor
from torch.nn import functional as F

ALIGNMENT = 8
"""``grouped_mm`` wants rows of a multiple of 16 bytes: 8 numbers in bf16."""


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
    return F.grouped_mm(x, weight, offs=offsets)[:, :outputs]


def _compute_dtype(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
