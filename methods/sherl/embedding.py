"""SHERL on an embedding: the form for CLIP4Clip, which has no late route."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import StreamSpec
from methods.sherl.tiers import EPSILON, sum_of_tiers
from methods.side.embedding import EmbeddingStream, Select
from methods.side.layers import sampler


class TieredStream(EmbeddingStream):
    """Every hidden state is pooled by the embedding q, then summed by how little it repeats.

    p_i = sum_n l1norm_n(ReLU(w_i (q v_i) + b_i)) v_i + sigmoid(g_i / T) v_i[salient];
    O = sum_i a_i p_i + q, with the weights a of ``sum_of_tiers``.

    Args:
        spec: the stream, with an embedding.
        width: m.
        kept: the hidden states to read.
        temperature: T.
        gated: whether the salient token has a trained gate, g from 1; otherwise it joins whole.
    """

    temperature: Tensor

    def __init__(
        self, spec: StreamSpec, width: int, kept: Sequence[int], temperature: float, gated: bool
    ) -> None:
        super().__init__(spec, width, kept)
        self.pools = nn.ModuleList(sampler(width, 1) for _ in self.kept)
        self.gates = nn.ParameterList(torch.ones(()) for _ in (self.kept if gated else ()))
        self.score = sampler(width, 1)
        # A tensor: autograd would keep a new one of a plain number at every step.
        self.register_buffer("temperature", torch.tensor(temperature), persistent=False)

    def aggregate(
        self, anchor: Tensor, tokens: Sequence[Tensor], mask: Tensor | None, salient: Select
    ) -> Tensor:
        """Return O [B, 1, m]; see ``EmbeddingStream.aggregate``."""
        picked = [salient(v) for v in tokens]  # each [B, m]
        for i, gate in enumerate(self.gates):
            picked[i] = torch.sigmoid(gate / self.temperature) * picked[i]
        pooled = [
            _pool(F.relu(score(anchor * v)), v, mask) + own
            for score, v, own in zip(self.pools, tokens, picked, strict=True)
        ]
        tiers = torch.stack(pooled, 1)[:, None]  # [B, 1, L, m]
        return sum_of_tiers(tiers, anchor, self.score) + anchor


def _pool(scores: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Return the sum [B, m] of tokens [B, N, m], weighted by normalised scores [B, N, 1]."""
    if mask is not None:
        scores = scores.masked_fill(~mask[..., None], 0)
    return (scores * tokens).sum(1) / (scores.sum(1) + EPSILON)
