"""NormalFloat 4: sixteen levels at the quantiles of a normal distribution, by block."""

import torch
from torch import Tensor

OFFSET = 1 - (1 / 32 + 1 / 30) / 2
"""Probability of the outermost levels: the mean of one half of the first of 15 and of 16 bins."""


def nf4_levels() -> Tensor:
    """Return the sixteen levels in [-1, 1], zero among them, in increasing order (fp32).

    Source: Dettmers et al., QLoRA, NeurIPS 2023, Eq. 4 and appendix E: eight levels on the
    positive side, seven on the negative one, and an exact zero.
    """
    positive = torch.special.ndtri(torch.linspace(OFFSET, 0.5, 9, dtype=torch.float64)[:-1])
    negative = -torch.special.ndtri(torch.linspace(OFFSET, 0.5, 8, dtype=torch.float64)[:-1])
    levels = torch.cat([positive, negative, positive.new_zeros(1)]).sort().values
    return (levels / levels.max()).float()


def nf4_rounded(weight: Tensor, block: int = 64) -> Tensor:
    """Return a weight after a passage through NF4, without double quantisation.

    Args:
        weight: [R, C] fp32.
        block: weights that share the scale, their largest magnitude; the last one may be short.

    Returns:
        [R, C] fp32, every weight at the nearest level of its block.
    """
    flat = weight.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
    scale = padded.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    levels = nf4_levels().to(weight)
    middles = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(padded / scale, middles)
    return (levels[codes] * scale).view(-1)[: len(flat)].view_as(weight)
