"""The head of image-text retrieval: tokens to the embedding's width, then pooled."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import StreamSpec, StreamState

POSITION_WIDTH = HIDDEN_WIDTH = 32


class GeneralizedPooling(nn.Module):
    """A weighted sum over each feature's sorted values, the weights by rank (GPO).

    Source: Chen et al., Learning the Best Pooling Strategy for Visual Semantic Embedding, CVPR
    2021, section 4: a recurrent net reads an encoding of every rank, upwards from the first and
    downwards from a row's last, and scores it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.upwards = nn.GRU(POSITION_WIDTH, HIDDEN_WIDTH, batch_first=True)
        self.downwards = nn.GRU(POSITION_WIDTH, HIDDEN_WIDTH, batch_first=True)
        self.score = nn.Linear(HIDDEN_WIDTH, 1, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Return [B, E].

        Args:
            tokens: [B, N, E].
            mask: [B, N] bool, True where a token is real; None where all are.
        """
        rows, count, _ = tokens.shape
        if mask is None:
            mask = torch.ones(rows, count, dtype=torch.bool, device=tokens.device)
        lengths = mask.sum(1)  # [B]
        ranked = tokens.masked_fill(~mask[..., None], -torch.inf).sort(1, descending=True).values
        taken = torch.arange(count, device=tokens.device) < lengths[:, None]  # [B, N]
        weights = self._weights(lengths, count).masked_fill(~taken, -torch.inf).softmax(1)
        return (ranked.masked_fill(~taken[..., None], 0) * weights[..., None]).sum(1)

    def _weights(self, lengths: Tensor, count: int) -> Tensor:
        """Return a score [B, N] for every rank of rows with ``lengths`` real tokens."""
        codes = rank_codes(count, lengths.device).to(self.score.weight.dtype)  # [N, 32]
        ranks = torch.arange(count, device=lengths.device)
        turned = (lengths[:, None] - 1 - ranks) % count  # [B, N]: from the last real rank downwards
        upwards, _ = self.upwards(codes[None])  # [1, N, 32]
        downwards, _ = self.downwards(codes[turned])  # [B, N, 32]
        downwards = downwards.gather(1, turned[..., None].expand_as(downwards))
        return self.score((upwards + downwards) / 2)[..., 0]


def rank_codes(count: int, device: torch.device) -> Tensor:
    """Return the sine and cosine codes [N, 32] of ranks 0 to N - 1."""
    ranks = torch.arange(count, device=device)[:, None]
    steps = torch.arange(0, POSITION_WIDTH, 2, device=device)
    angles = ranks * torch.exp(-math.log(10000.0) * steps / POSITION_WIDTH)  # [N, 16]
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)


class RetrievalHead(nn.Module):
    """A linear layer and a ``GeneralizedPooling`` a stream.

    Args:
        specs: the streams, each with the embedding's width.
        embedded: streams whose tokens have that width already.
    """

    def __init__(self, specs: Sequence[StreamSpec], embedded: Sequence[str]) -> None:
        super().__init__()
        self.projections = nn.ModuleDict()
        for spec in specs:
            assert spec.embedding_width is not None
            if spec.name not in embedded:
                self.projections[spec.name] = nn.Linear(spec.width, spec.embedding_width)
        self.pools = nn.ModuleDict({spec.name: GeneralizedPooling() for spec in specs})

    def forward(self, states: Mapping[str, StreamState]) -> dict[str, Tensor]:
        """Return the embedding [B, E] of each stream, of length 1."""
        embeddings: dict[str, Tensor] = {}
        for name, pool in self.pools.items():
            state = states[name]
            tokens = state.output[:, state.content]
            mask = None if state.mask is None else state.mask[:, state.content]
            if name in self.projections:
                tokens = self.projections[name](tokens)
            embeddings[name] = F.normalize(pool(tokens, mask), dim=1)
        return embeddings
