"""The relative-position bias that the blocks of a side stack share."""

import math

import torch
from torch import Tensor, nn

from harness.backbones.base import BlockStyle, StreamSpec


def attention_shape(spec: StreamSpec, width: int) -> tuple[int, int]:
    """Return the heads of attention at side width m, and the size of all their queries together.

    The heads are the stream's; where the size is no multiple of them, their greatest common
    divisor.
    """
    inner = (spec.attention_width or spec.width) * width // spec.width
    return math.gcd(inner, spec.heads), inner


def stack_positions(spec: StreamSpec, width: int) -> "RelativePositions | None":
    """Return the position bias of a side stack of width m, None where the blocks have none."""
    if not spec.style.position_buckets:
        return None
    return RelativePositions(spec.style, attention_shape(spec, width)[0], spec.causal)


class RelativePositions(nn.Module):
    """One learned number for each head and bucket of distances (Raffel et al. 2020, section 2.1).

    Half of the buckets are for one distance each, the others grow with the logarithm up to
    ``position_distance``. Where a stream is not causal, one half of all buckets is for tokens that
    come later.

    Args:
        style: number of buckets and the largest distance.
        heads: attention heads.
        causal: whether only earlier tokens are seen.
    """

    def __init__(self, style: BlockStyle, heads: int, causal: bool) -> None:
        super().__init__()
        self.distance = style.position_distance
        self.causal = causal
        self.table = nn.Embedding(style.position_buckets, heads)

    def forward(self, queries: int, keys: int) -> Tensor:
        """Return the bias [1, heads, N, M] of ``queries`` tokens, the last ones of ``keys``."""
        device = self.table.weight.device
        places = torch.arange(keys, device=device)
        offsets = places[None, :] - places[keys - queries :, None]  # [N, M], key minus query
        buckets = bucket_of(offsets, self.table.num_embeddings, self.distance, self.causal)
        return self.table(buckets).permute(2, 0, 1)[None]


def bucket_of(offsets: Tensor, buckets: int, distance: int, causal: bool) -> Tensor:
    """Return the bucket of every offset (key minus query), as a tensor of its shape."""
    later = torch.zeros_like(offsets)
    if causal:
        steps = (-offsets).clamp_min(0)
    else:
        buckets //= 2
        later = (offsets > 0).long() * buckets
        steps = offsets.abs()
    exact = buckets // 2
    spread = (steps.float() / exact).clamp_min(1).log() / math.log(distance / exact)
    coarse = (exact + (spread * (buckets - exact)).long()).clamp_max(buckets - 1)
    return later + torch.where(steps < exact, steps, coarse)
