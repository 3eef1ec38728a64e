"""NormalFloat 4: sixteen levels at the quantiles of a normal distribution, by block."""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.quantization.packing import pack
from methods.quantization.storage import LowBitWeight

BLOCK = 64
"""Weights that share a scale, as in QLoRA."""

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


def nf4_codes(weight: Tensor, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Quantise a weight to NF4, without double quantisation.

    Args:
        weight: fp32 of any shape, of n numbers.
        block: weights that share the scale, their largest magnitude; the last one may be short.

    Returns:
        Codes [n] uint8, indices of levels, and scales [ceil(n / block)] fp32.
    """
    flat = weight.reshape(-1)
    padded = F.pad(flat, (0, -len(flat) % block)).view(-1, block)
    scale = padded.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    levels = nf4_levels().to(weight)
    codes = torch.bucketize(padded / scale, (levels[1:] + levels[:-1]) / 2)
    return codes.view(-1)[: len(flat)].to(torch.uint8), scale.view(-1)


def nf4_rounded(weight: Tensor) -> Tensor:
    """Return a weight [R, C] fp32 with every number at the nearest level of its block of 64."""
    return Nf4Weight(weight, "").dequantize()


class Nf4Weight(LowBitWeight):
    """A frozen weight matrix as packed 4-bit NormalFloat codes with a scale per block.

    Args:
        weight: [R, C] of any floating dtype; further dimensions, of kernels, count as columns.
        source_name: name of the master tensor in its file.
        block: weights that share a scale, counted through the rows.

    Attributes:
        scale: [ceil(R x C / block)] fp32 buffer, the largest magnitude of a block.
        levels: [16] fp32 buffer, what the codes stand for, in units of the scale.
    """

    levels: Tensor

    def __init__(self, weight: Tensor, source_name: str, block: int = BLOCK) -> None:
        super().__init__()
        weight = weight.detach().flatten(1).float()
        self.source_name = source_name
        self.shape = weight.shape
        self.block = block
        codes, scale = nf4_codes(weight, block)
        self.register_buffer("codes", pack(codes, 4))
        self.register_buffer("scale", scale)
        self.register_buffer("levels", nf4_levels().to(weight.device))
        self.register_buffer("mse", self.error_against(weight))

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the weight [R, C] in ``dtype``, a new tensor at every call.

        A byte holds two codes and is looked up whole, so that codes are never unpacked.
        """
        levels = self.levels.to(dtype)
        pairs = torch.stack([levels.repeat(16), levels.repeat_interleave(16)], dim=1)  # [256, 2]
        count = self.shape.numel()
        values = pairs.index_select(0, self.codes.int()).view(-1)[:count]
        whole = count - count % self.block
        scale = self.scale.to(dtype)
        values[:whole].view(-1, self.block).mul_(scale[: whole // self.block, None])
        if whole < count:
            values[whole:].mul_(scale[-1])
        return values.view(self.shape)

    def extra_repr(self) -> str:
        """Describe shape and block."""
        return f"{tuple(self.shape)}, nf4, block={self.block}"
