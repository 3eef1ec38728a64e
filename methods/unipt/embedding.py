"""UniPT on an embedding: the form for CLIP4Clip."""

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.backbones.base import StreamSpec
from methods.side.embedding import EmbeddingStream, Select
from methods.side.salient import masked_mean
from methods.unipt.confidence import Confidence, interact


class MeetingStream(EmbeddingStream):
    """The embedding meets every hidden state: M_l = A_l Z_l + its salient token, O = sum c_l M_l.

    The released code adds the anchor to nothing here; it weighs the meetings alone.

    Args:
        spec: the stream, with an embedding.
        width: m.
        kept: the hidden states to read.
    """

    def __init__(self, spec: StreamSpec, width: int, kept: Sequence[int]) -> None:
        super().__init__(spec, width, kept)
        self.confidence = Confidence(width)

    def aggregate(
        self, anchor: Tensor, tokens: Sequence[Tensor], mask: Tensor | None, salient: Select
    ) -> Tensor:
        """Return O [B, 1, m]; see ``EmbeddingStream.aggregate``."""
        seen = None if mask is None else mask[:, None]
        meetings = [interact(anchor, z, seen) + salient(z)[:, None] for z in tokens]
        weights = self.confidence(anchor, [masked_mean(z, mask) for z in tokens])
        return torch.stack([c * m for c, m in zip(weights, meetings, strict=True)]).sum(0)
