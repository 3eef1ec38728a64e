"""Side networks that change a retrieval backbone's embedding itself (the form for CLIP4Clip).

One token, the frozen embedding e, meets the hidden states of its stream: out = e + U(ReLU(O)).
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, StreamSpec, StreamState
from harness.errors import UserError
from methods.cache import TokenCache
from methods.side.network import Network, embedding_width, tap_tokens

Select = Callable[[Tensor], Tensor]
"""From tokens [B, N, m] to the salient one of them [B, m]."""


class EmbeddingStream(nn.Module):
    """The side network of one stream: filters of its hidden states and of its embedding.

    Args:
        spec: the stream, with an embedding.
        width: m.
        kept: the hidden states to read.
    """

    def __init__(self, spec: StreamSpec, width: int, kept: Sequence[int]) -> None:
        super().__init__()
        self.spec = spec
        self.kept = tuple(kept)
        embedding = embedding_width(spec)
        self.filters = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Linear(spec.tap_width(i), width)) for i in self.kept
        )
        self.anchor = nn.Sequential(nn.ReLU(), nn.Linear(embedding, width))
        self.up = nn.Sequential(nn.ReLU(), nn.Linear(width, embedding))

    def forward(
        self, tokens: Sequence[Tensor], frozen: Tensor, mask: Tensor | None, salient: Select
    ) -> Tensor:
        """Return the adapted embedding [B, 1, E].

        Args:
            tokens: all hidden states of the stream, [B, N, D] each.
            frozen: [B, E], the backbone's own embedding.
            mask: [B, N] bool, True where a token is real.
            salient: picks the token that the backbone embeds.
        """
        anchor = self.anchor(frozen)[:, None]  # [B, 1, m]
        filtered = [f(tokens[i]) for f, i in zip(self.filters, self.kept, strict=True)]
        return frozen[:, None] + self.up(self.aggregate(anchor, filtered, mask, salient))

    @abstractmethod
    def aggregate(
        self, anchor: Tensor, tokens: Sequence[Tensor], mask: Tensor | None, salient: Select
    ) -> Tensor:
        """Return O [B, 1, m] of the anchor [B, 1, m] and the filtered states [B, N, m]."""


class EmbeddingNetwork(Network):
    """An ``EmbeddingStream`` for every stream that the head reads.

    Args:
        backbone: the frozen model; not a part of the network.
        reads: the streams that the head reads.
        build: makes the side network of one stream.

    Raises:
        UserError: the backbone embeds nothing by itself.
    """

    embeds = True

    def __init__(
        self,
        backbone: Backbone,
        reads: Sequence[str],
        build: Callable[[StreamSpec], EmbeddingStream],
    ) -> None:
        super().__init__()
        if type(backbone).embed is Backbone.embed:
            raise UserError(
                f"method.output=embedding: {type(backbone).__name__} has no embedding of its own, "
                f"as that of clip is; leave method.output=state."
            )
        self.streams = nn.ModuleDict({name: build(backbone.spec(name)) for name in reads})
        self.norms = nn.ModuleDict()

    @property
    def adapts(self) -> tuple[str, ...]:
        """The streams whose embedding it changes."""
        return tuple(self.streams)

    def forward(
        self,
        states: Mapping[str, StreamState],
        backbone: Backbone,
        cache: TokenCache | None = None,  # noqa: ARG002 - what is embedded is not written
    ) -> dict[str, Tensor]:
        """Return the adapted embedding [B, 1, E] of each stream."""
        outputs: dict[str, Tensor] = {}
        for name, stream in self.streams.items():
            state = states[name]
            with torch.no_grad():
                frozen = backbone.embed(name, state.salient)

            def salient(x: Tensor, name: str = name, state: StreamState = state) -> Tensor:
                return backbone.select_salient(name, x, state.mask)

            outputs[name] = stream(tap_tokens(state), frozen, state.mask, salient)
        return outputs
