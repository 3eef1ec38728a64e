"""Linear layers in integers: 8-bit inputs times low-bit weights (W8A8)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST = 127
ROWS = 512
"""Tokens in a block: its integers and sums stay in the cache of a CPU."""
FEWEST_ROWS = 32
ALIGNMENT = 8
"""CUDA multiplies integer matrices of more than 16 rows, and of multiples of 8 columns."""
EXACT = 1024
"""So many products of 127 and 128 sum to less than 2^24, up to which fp32 holds every integer."""


def int8_linear(
    x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor, bias: Tensor | None
) -> Tensor:
    """Return x W^T + b with ``x`` rounded to 8 bits, every token on a scale of its own.

    With x = a X (a: the token's scale, X: integers) and W = s C + o, s and o of an output channel,
    x W^T = a (s (X C^T) + o sum(X)): one product of integers, whose last columns, of ones, are the
    sums. Block by block, so that no more than one block's sums are alive.

    Source: Dettmers et al., "LLM.int8()", 2022, section 2.1 (vector-wise scales); the affine
    product is Jacob et al., 2018, Eq. 7.

    Args:
        x: [..., C] floating point.
        codes: [R, C] int8.
        scale: [R] fp32, s.
        offset: [R] fp32, o.
        bias: [R] floating point, or None.

    Returns:
        [..., R] in the dtype of ``x``.
    """
    rows, columns = codes.shape
    flat = x.reshape(-1, columns)
    padded = F.pad(codes, (0, -columns % ALIGNMENT, 0, -rows % ALIGNMENT))
    right = torch.cat([padded, padded.new_ones(ALIGNMENT, padded.shape[1])]).t()  # [C', R' + 8]
    multiply = _multiplier(right)
    bias = scale.new_zeros(rows) if bias is None else bias.float()
    result = flat.new_empty(flat.shape[0], rows)
    for begin in range(0, flat.shape[0], ROWS):
        left, step = _rounded(flat[begin : begin + ROWS].float())
        missing = (-columns % ALIGNMENT, max(0, FEWEST_ROWS - len(left)))
        if any(missing):
            left = F.pad(left, (0, missing[0], 0, missing[1]))
        sums = multiply(left)[: len(step)]  # [n, R' + 8]
        product = sums[:, :rows].mul_(scale).addr_(sums[:, -1], offset)
        result[begin : begin + ROWS] = torch.addcmul(bias, product, step, out=product)
    return result.view(*x.shape[:-1], rows)


def _multiplier(right: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what multiplies integers [n, C'] by ``right`` [C', R'], to sums in fp32.

    A CPU without instructions for integers takes some thirty times as long for them as for fp32,
    which computes the same sums.
    """
    if right.is_cuda or torch.cpu._is_vnni_supported():
        return lambda left: torch._int_mm(left, right).float()
    parts = [part.float() for part in right.split(EXACT)]

    def multiply(left: Tensor) -> Tensor:
        sums = left.new_zeros((), dtype=torch.float32)
        with torch.autocast(left.device.type, enabled=False):
            for x, part in zip(left.split(EXACT, dim=1), parts, strict=True):
                sums = sums + x.float() @ part
        return sums

    return multiply


def _rounded(block: Tensor) -> tuple[Tensor, Tensor]:
    """Return the integers [n, C] int8 of tokens [n, C] fp32, and the scale [n, 1] of each."""
    highest = block.abs().amax(dim=-1, keepdim=True)
    step = (highest / LARGEST).clamp_(min=torch.finfo(block.dtype).tiny)
    return (block / step).round_().to(torch.int8), step
