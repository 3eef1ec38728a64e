"""From the states of two streams to embeddings that can be compared."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone
from tasks.base import States

TEMPERATURE = 0.07
LARGEST_SCALE = 100.0


class PairHead(nn.Module):
    """Embeddings of both streams, of length 1; the first times a trained scale where asked.

    A backbone with a retrieval head of its own brings it; one with a frozen embedding embeds the
    salient tokens; of any other the salient tokens are projected, from where pretraining left its
    projection if it had one. Where the first stream has several rows for one of the second, they
    are a video's frames, and their mean is its embedding.

    Source: the mean pooling of CLIP4Clip, Luo et al. 2021, section 3.3.

    Args:
        backbone: the model; not a part of the head.
        streams: the two streams, for instance image and text.
        width: size E of the embeddings where the backbone brings none.
        embedded: streams whose states a method has brought to the embedding's width.
        scaled: whether a scale is trained, the inverse of the temperature.
    """

    def __init__(
        self,
        backbone: Backbone,
        streams: Sequence[str],
        width: int,
        embedded: Sequence[str],
        *,
        scaled: bool,
    ) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.embedded = tuple(embedded)
        self._backbone = (backbone,)  # in a tuple, so that its weights are not the head's
        specs = [backbone.spec(name) for name in streams]
        own = backbone.paper_head(embedded) if self.streams == backbone.paper_reads else None
        self.pooling = own if own is not None and next(own.parameters(), None) is not None else None
        self.embeds = type(backbone).embed is not Backbone.embed
        self.projections = nn.ModuleDict()
        if self.pooling is None and not self.embeds:
            self.projections.update(
                {s.name: backbone.projection(s.name) or nn.Linear(s.width, width) for s in specs}
            )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE))) if scaled else None

    def forward(self, states: States) -> Tensor:
        """Return [B, 2, E]."""
        if self.pooling is not None:
            pooled = self.pooling(states)
            found = [pooled[name] for name in self.streams]
        else:
            found = [self._embed(name, states[name].salient) for name in self.streams]
        first, second = (F.normalize(embedding.float(), dim=1) for embedding in found)
        if len(first) != len(second):
            frames = first.view(len(second), -1, first.shape[1])  # [B, frames, E]
            first = F.normalize(frames.mean(1), dim=1)
        if self.log_scale is not None:
            first = first * self.log_scale.exp().clamp(max=LARGEST_SCALE)
        return torch.stack([first, second], dim=1)

    def _embed(self, stream: str, salient: Tensor) -> Tensor:
        if stream in self.embedded:
            return salient
        if self.embeds:
            return self._backbone[0].embed(stream, salient)
        return self.projections[stream](salient)
