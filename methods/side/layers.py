"""Layers at side width m: samplers, attention, feed-forward, a pre-norm transformer block."""

import math
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import StreamSpec, Tap
from harness.errors import UserError

SAMPLER_STD = 0.01


class TokenMixer(Protocol):
    """What may stand where a side network has a feed-forward network.

    Called with tokens [B, N, m], the salient token [B, D] of the tap that feeds them, and the mask
    [B, N] of real tokens (None where all are).
    """

    def __call__(self, x: Tensor, salient: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, N, m] to [B, N, m]."""
        ...


MixerFactory = Callable[[StreamSpec, int], nn.Module]
"""From a stream's shape and the side width m to a ``TokenMixer`` that is a module."""


def side_width(spec: StreamSpec, reduction: int) -> int:
    """Return m = D / r.

    Raises:
        UserError: r does not divide D.
    """
    if spec.width % reduction:
        divisors = [r for r in range(1, spec.width + 1) if spec.width % r == 0]
        nearest = min(divisors, key=lambda r: abs(r - reduction))
        raise UserError(
            f"reduction={reduction} must divide the width {spec.width} of stream '{spec.name}'; "
            f"the nearest that does is {nearest}."
        )
    return spec.width // reduction


def kept_layers(spec: StreamSpec, layers: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the indices of the hidden states to read (0 is the embedding).

    Raises:
        UserError: a stream has fewer blocks.
    """
    if layers is None:
        return tuple(range(spec.depth + 1))
    if layers[-1] > spec.depth:
        raise UserError(
            f"layers={list(layers)}: stream '{spec.name}' has {spec.depth} blocks, so its hidden "
            f"states are 0 to {spec.depth}."
        )
    return layers


def tap_tokens(tap: Tap) -> Tensor:
    """Return a tap as tokens [B, N, D]."""
    return tap.value if tap.layout == "BNC" else tap.value.flatten(2).transpose(1, 2)


def sampler(inputs: int, outputs: int) -> nn.Linear:
    """Return a down- or up-projection: weights N(0, 0.01^2), bias 0 (LST, section 3.3)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=SAMPLER_STD)
    nn.init.zeros_(layer.bias)
    return layer


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them.

    Args:
        width: m.
        hidden: size of the hidden layer.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor, salient: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Map [B, N, m] to [B, N, m], each token by itself."""
        return self.down(F.relu(self.up(x)))


def feed_forward(spec: StreamSpec, width: int) -> FeedForward:
    """Return a feed-forward network whose hidden layer shrinks like the width does."""
    return FeedForward(width, max(1, spec.ffn_width * width // spec.width))


class Attention(nn.Module):
    """Multi-head self-attention that stores no [N, N] matrix.

    Args:
        width: m.
        heads: attention heads; must divide m.
        causal: whether token t sees only tokens up to t.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, N, m] to [B, N, m].

        Args:
            x: [B, N, m].
            mask: [B, N] bool, True where a token is real; None where all are.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # [B, N, 3, heads, m / heads]
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, N, m / heads]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self._visible(x, mask))
        return self.out(y.transpose(1, 2).flatten(2))

    def _visible(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        visible = None if mask is None else mask[:, None, None, :]  # [B, 1, 1, N]
        if self.causal:
            past = causal_mask(x.shape[1], x)
            visible = past if visible is None else visible & past
        return visible


def causal_mask(tokens: int, like: Tensor) -> Tensor:
    """Return [N, N] bool on the device of ``like``: True where the key is not in the future."""
    return like.new_ones((tokens, tokens), dtype=torch.bool).tril()


class Block(nn.Module):
    """A transformer block at side width.

    Args:
        spec: the stream whose number of heads and causality it takes over; where m is no multiple
            of the heads, their greatest common divisor.
        width: m.
        mixer: makes the feed-forward network, or what stands in its place.
        norm: whether norms stand before the sub-layers or, as in BERT, after the residual sums.
    """

    def __init__(
        self,
        spec: StreamSpec,
        width: int,
        mixer: MixerFactory,
        norm: Literal["pre", "post"] = "pre",
    ) -> None:
        super().__init__()
        self.pre_norm = norm == "pre"
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, math.gcd(width, spec.heads), spec.causal)
        self.mixer_norm = nn.LayerNorm(width)
        self.mixer = mixer(spec, width)

    def forward(self, x: Tensor, mask: Tensor | None, salient: Tensor) -> Tensor:
        """Map [B, N, m] to [B, N, m]; ``salient`` is [B, D]."""
        if self.pre_norm:
            x = x + self.attention(self.attention_norm(x), mask)
            return x + self.mixer(self.mixer_norm(x), salient, mask)
        x = self.attention_norm(x + self.attention(x, mask))
        return self.mixer_norm(x + self.mixer(x, salient, mask))
