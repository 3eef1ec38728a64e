"""Layers at side width m: samplers, attention, feed-forward, a transformer block.

They are made like the backbone's own layers (``BlockStyle``), only smaller.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import BlockStyle, StreamSpec
from harness.errors import UserError
from methods.cache import TokenCache, remember
from methods.side.config import LayerChoice
from methods.side.positions import RelativePositions, attention_shape

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


def side_width(spec: StreamSpec, reduction: int, width: int | None = None) -> int:
    """Return m = D / r, or ``width`` where it is given.

    Raises:
        UserError: r does not divide D.
    """
    if width is not None:
        return width
    if spec.width % reduction:
        divisors = [r for r in range(1, spec.width + 1) if spec.width % r == 0]
        nearest = min(divisors, key=lambda r: abs(r - reduction))
        raise UserError(
            f"reduction={reduction} must divide the width {spec.width} of stream '{spec.name}'; "
            f"the nearest that does is {nearest}."
        )
    return spec.width // reduction


def kept_layers(spec: StreamSpec, layers: LayerChoice) -> tuple[int, ...]:
    """Return the indices of the hidden states to read (0 is the embedding).

    Raises:
        UserError: a stream has fewer blocks.
    """
    if isinstance(layers, dict):
        layers = layers.get(spec.name)
    if layers is None:
        return spec.stage_ends or tuple(range(spec.depth + 1))
    if layers[-1] > spec.depth:
        raise UserError(
            f"layers={list(layers)}: stream '{spec.name}' has {spec.depth} blocks, so its hidden "
            f"states are 0 to {spec.depth}."
        )
    return layers


def sampler(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """Return a down- or up-projection: weights N(0, 0.01^2), bias 0 (LST, section 3.3)."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=SAMPLER_STD)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def make_norm(style: BlockStyle, width: int) -> nn.Module:
    """Return a norm over the last dimension, of the stream's kind."""
    kind = nn.LayerNorm if style.norm == "layer" else nn.RMSNorm
    return kind(width, eps=style.epsilon)


class FeedForward(nn.Module):
    """Two linear layers with an activation between them.

    Args:
        width: m.
        hidden: size of the hidden layer.
        style: biases and activation.
    """

    def __init__(self, width: int, hidden: int, style: BlockStyle) -> None:
        super().__init__()
        self.activation = F.relu if style.activation == "relu" else F.gelu
        self.up = nn.Linear(width, hidden, bias=style.bias)
        self.down = nn.Linear(hidden, width, bias=style.bias)

    def forward(self, x: Tensor, salient: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Map [B, N, m] to [B, N, m], each token by itself."""
        return self.down(self.activation(self.up(x)))


def feed_forward(spec: StreamSpec, width: int) -> FeedForward:
    """Return a feed-forward network whose hidden layer shrinks like the width does."""
    return FeedForward(width, max(1, spec.ffn_width * width // spec.width), spec.style)


class Attention(nn.Module):
    """Multi-head attention of a stream's tokens to themselves or to another stream's.

    It stores no [N, N] matrix but where a trained position bias needs one.

    Args:
        spec: the stream, whose style it takes over, and its heads as ``attention_shape`` says.
        width: m.
        source_width: width of the tokens that are attended to; None for the stream's own.
    """

    def __init__(self, spec: StreamSpec, width: int, source_width: int | None = None) -> None:
        super().__init__()
        self.heads, inner = attention_shape(spec, width)
        bias = spec.style.bias
        self.causal = spec.causal and source_width is None
        self.scale = None if spec.style.scaled else 1.0
        if source_width is None:
            self.qkv = nn.Linear(width, 3 * inner, bias=bias)
        else:
            self.q = nn.Linear(width, inner, bias=bias)
            self.kv = nn.Linear(source_width, 2 * inner, bias=bias)
        self.out = nn.Linear(inner, width, bias=bias)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        positions: RelativePositions | None = None,
        cache: TokenCache | None = None,
    ) -> Tensor:
        """Let tokens attend to themselves, and to the cached tokens before them.

        Args:
            x: [B, N, m].
            mask: [B, N] bool, True where a token is real; None where all are. With a cache, of all
                tokens so far.
            positions: gives the bias of every pair of tokens.
            cache: keys and values of the tokens before ``x``.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # [B, N, 3, heads, m / heads]
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, N, m / heads]
        k, v = remember(cache, self, "k", k, 2), remember(cache, self, "v", v, 2)
        return self._attend(q, k, v, self._visible(q, k, mask), positions)

    def attend(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """Let tokens attend to another stream's.

        Args:
            x: [B, N, m].
            source: [B, M, source width].
            mask: [B, M] bool, True where a source token is real; None where all are.
        """
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, m / heads]
        k, v = self.kv(source).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self._attend(q, k, v, None if mask is None else mask[:, None, None, :], None)

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        visible: Tensor | None,
        positions: RelativePositions | None,
    ) -> Tensor:
        if positions is None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=self.scale)
        else:
            bias = positions(q.shape[2], k.shape[2])  # [1, heads, N, M]
            y = biased_attention(q, k, v, visible, bias, self.scale)
        return self.out(y.transpose(1, 2).flatten(2))

    def _visible(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor | None:
        visible = None if mask is None else mask[:, None, None, :]  # [B, 1, 1, M]
        if self.causal:
            past = causal_mask(q.shape[2], k.shape[2], q)
            visible = past if visible is None else visible & past
        return visible


def biased_attention(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, bias: Tensor, scale: float | None
) -> Tensor:
    """Return softmax(scale q k^T + bias) v, every token of which sees at least one.

    What the library's attention does where a bias is trained, but for a buffer of its own, as large
    as the scores, that no tracker sees.

    Args:
        q: [B, heads, N, c].
        k: [B, heads, M, c].
        v: [B, heads, M, c].
        visible: bool, broadcast to [B, heads, N, M]; None where all is seen.
        bias: [1, heads, N, M].
        scale: None for the inverse root of c.
    """
    with torch.autocast(q.device.type, enabled=False):  # the scores stay in the precision of q
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        scores = (q if scale == 1 else q * scale) @ k.transpose(2, 3) + bias.to(q.dtype)
        if visible is not None:
            scores = scores.masked_fill(~visible, -torch.inf)
        return scores.softmax(-1) @ v


def causal_mask(queries: int, keys: int, like: Tensor) -> Tensor:
    """Return [N, M] bool on the device of ``like``: True where the key is not in the future.

    The queries are the last of the keys' tokens.
    """
    return like.new_ones((queries, keys), dtype=torch.bool).tril(keys - queries)


class Block(nn.Module):
    """A transformer block at side width, made like the stream's own.

    Args:
        spec: the stream whose heads, causality and style it takes over.
        width: m.
        mixer: makes the feed-forward network, or what stands in its place.
        norm: whether norms stand before the sub-layers or after the residual sums; ``stream`` for
            where the stream has them.
    """

    def __init__(
        self,
        spec: StreamSpec,
        width: int,
        mixer: MixerFactory,
        norm: Literal["stream", "pre", "post"] = "stream",
    ) -> None:
        super().__init__()
        self.pre_norm = spec.style.norm_first if norm == "stream" else norm == "pre"
        self.attention_norm = make_norm(spec.style, width)
        self.attention = Attention(spec, width)
        if spec.cross:
            self.cross_norm = make_norm(spec.style, width)
            self.cross_attention = Attention(spec, width, width)
        self.mixer_norm = make_norm(spec.style, width)
        self.mixer = mixer(spec, width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        salient: Tensor,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
        positions: RelativePositions | None = None,
        cache: TokenCache | None = None,
    ) -> Tensor:
        """Map [B, N, m] to [B, N, m].

        Args:
            x: [B, N, m].
            mask: [B, N] bool, True where a token is real.
            salient: [B, D], what a mixture of experts looks at.
            source: [B, M, m], side tokens of another stream, where the stream reads one.
            source_mask: [B, M] bool.
            positions: the stack's position bias.
            cache: what the block has seen of earlier tokens.
        """

        def attend(x: Tensor) -> Tensor:
            return self.attention(x, mask, positions, cache)

        def cross(x: Tensor) -> Tensor:
            assert source is not None
            return self.cross_attention.attend(x, source, source_mask)

        def mix(x: Tensor) -> Tensor:
            return self.mixer(x, salient, mask if cache is None else None)

        x = self._residual(x, self.attention_norm, attend)
        if source is not None:
            x = self._residual(x, self.cross_norm, cross)
        return self._residual(x, self.mixer_norm, mix)

    def _residual(self, x: Tensor, norm: nn.Module, layer: Callable[[Tensor], Tensor]) -> Tensor:
        return x + layer(norm(x)) if self.pre_norm else norm(x + layer(x))
