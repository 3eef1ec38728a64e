"""Which token of which hidden state stands for a whole sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from harness.backbones.base import Backbone


@dataclass(frozen=True)
class SalientRule:
    """The salient token h0 of every tap of a stream.

    Attributes:
        layer: the hidden state that it is taken from: each tap's own, or one for all of them. Where
            taps have different widths, "tap" is the last one for all of them.
        token: what the backbone calls salient ([CLS] or its stand-in), the first, or the mean.
    """

    layer: Literal["tap", "last", "embedding"] = "tap"
    token: Literal["backbone", "first", "mean"] = "backbone"

    def select(
        self, backbone: Backbone, stream: str, tokens: Sequence[Tensor], mask: Tensor | None
    ) -> list[Tensor]:
        """Return the salient token [B, D] for each of the hidden states.

        Args:
            backbone: tells the salient token of a stream.
            stream: its name.
            tokens: the hidden states [B, N, D], the embedding first.
            mask: [B, N] bool, True where a token is real; None where all are.
        """
        if self.layer == "tap" and backbone.spec(stream).widths is None:
            return [self._of(backbone, stream, x, mask) for x in tokens]
        source = tokens[0] if self.layer == "embedding" else tokens[-1]
        return [self._of(backbone, stream, source, mask)] * len(tokens)

    def _of(self, backbone: Backbone, stream: str, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.token == "backbone":
            return backbone.select_salient(stream, x, mask)
        return x[:, 0] if self.token == "first" else masked_mean(x, mask)[:, 0]


OWN_TAP = SalientRule()
"""What the backbone calls salient in the very tap that is read."""


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over real tokens, [B, N, C] -> [B, 1, C]."""
    if mask is None:
        return x.mean(1, keepdim=True)
    real = mask[..., None].to(x.dtype)
    return (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
