"""Universal parallel tuning: every tap meets the anchor, a confidence weighs the meetings.

Notation of the paper: Z_l the down-projected tap l, Z_a the anchor (the last tap), m the width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import StreamSpec
from harness.errors import UserError
from methods.cache import remember
from methods.side.config import SideConfig
from methods.side.layers import MixerFactory, causal_mask, kept_layers, side_width
from methods.side.method import NetworkMethod
from methods.side.network import (
    Ending,
    SideNetwork,
    SideStream,
    SideTaps,
    SourceTokens,
)
from methods.side.salient import OWN_TAP, SalientRule, masked_mean
from methods.unipt import UniptConfig

EPSILON = 1e-6


class LinearProjection(nn.Module):
    """P of the text and retrieval hosts: a linear layer, then a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, salient: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Map [B, N, m] to [B, N, m], each token by itself."""
        return self.norm(self.linear(x))


class MlpProjection(nn.Module):
    """P of CLIP-ViL and MDETR: an m-d-m network, then a norm."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, salient: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Map [B, N, m] to [B, N, m], each token by itself."""
        return self.norm(self.down(F.relu(self.up(x))))


@dataclass(frozen=True)
class ParallelParts:
    """What a host may put into a parallel side network.

    Attributes:
        projection: makes P.
        meeting: makes what each M_l goes through; None for nothing.
        finish: makes a residual network behind the upsampler; None for nothing.
    """

    projection: MixerFactory
    meeting: MixerFactory | None = None
    finish: MixerFactory | None = None


def linear_projection(_: StreamSpec, width: int) -> LinearProjection:
    """Return P of the text and retrieval hosts."""
    return LinearProjection(width)


def mlp_projection(spec: StreamSpec, width: int) -> MlpProjection:
    """Return P of CLIP-ViL and MDETR."""
    return MlpProjection(width, spec.width)


class ParallelStream(SideStream):
    """The parallel side network of one stream (UniPT, section 3.2).

    Z_l = LN(D_l h_l); A_l = l1norm(ReLU(Z_a Z_l^T)) + I; M_l = A_l Z_l;
    O = Z_a + P(sum_l c_l M_l), with the confidence c of ``Confidence``.

    The sources' side outputs are one more target, without the identity: their tokens need not be
    this stream's. Sources that are read by cross-attention come at backbone width and pass the
    anchor's filter.

    Args:
        spec: the stream.
        config: width and taps.
        parts: makes P and what may follow the meetings.
    """

    def __init__(
        self,
        spec: StreamSpec,
        config: SideConfig,
        parts: ParallelParts,
    ) -> None:
        width = side_width(spec, config.reduction)
        super().__init__(spec, width)
        self.kept = kept_layers(spec, config.layers)
        if len(self.kept) < 2:
            raise UserError(
                f"layers={list(self.kept)}: a parallel side network needs two hidden states at "
                f"least, an anchor (the last) and a target."
            )
        self.samplers = nn.ModuleList(
            nn.Sequential(nn.Linear(spec.tap_width(i), width), nn.LayerNorm(width))
            for i in self.kept
        )
        self.confidence = Confidence(width)
        self.projection = parts.projection(spec, width)
        self.meetings = nn.ModuleList()
        if parts.meeting is not None:
            self.meetings.extend(parts.meeting(spec, width) for _ in self.kept[1:])

    def forward(self, taps: SideTaps, sources: SourceTokens | None) -> Tensor:
        """Return the side output O [B, N, m]."""
        filtered = [
            down(taps.tokens[layer]) for layer, down in zip(self.kept, self.samplers, strict=True)
        ]
        *targets, anchor = filtered  # each [B, N, m]
        known = [remember(taps.cache, self, f"z{i}", z, 1) for i, z in enumerate(targets)]
        visible = self._visible(anchor, known[0], taps.mask)
        meetings = [
            interact(anchor, past, visible) + z for past, z in zip(known, targets, strict=True)
        ]
        for i, follow in enumerate(self.meetings):
            meetings[i] = follow(meetings[i], taps.salients[self.kept[i]], taps.mask)
        means = [self._summary(z, taps.mask) for z in targets]
        if sources is not None:
            seen = None if sources.mask is None else sources.mask[:, None, :]
            value = self.samplers[-1](sources.value) if self.spec.cross else sources.value
            meetings.append(interact(anchor, value, seen))
            means.append(masked_mean(value, sources.mask))
        weights = self.confidence(self._summary(anchor, taps.mask), means)
        total = sum(
            (c * m for c, m in zip(weights, meetings, strict=True)), torch.zeros_like(anchor)
        )
        return anchor + self.projection(total, taps.salients[self.kept[-1]], taps.mask)

    def _visible(self, anchor: Tensor, target: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return which keys a query may meet, [B or 1, 1 or N, M] bool; None where all."""
        visible = None if mask is None else mask[:, None, :]
        if self.spec.causal:
            past = causal_mask(anchor.shape[1], target.shape[1], anchor)
            visible = past if visible is None else visible & past
        return visible

    def _summary(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """Return what the confidence reads of Z [B, N, m]: its mean, or itself where causal."""
        return z if self.spec.causal else masked_mean(z, mask)


class Confidence(nn.Module):
    """c = softmax_l(w . (mean(Z_a) * mean(Z_l)) + b), one scalar a tap and sample.

    In a causal stream the token itself stands for the mean, which would see the future.

    Args:
        width: m.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, anchor: Tensor, targets: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return one weight [B, 1 or N, 1] a target.

        Args:
            anchor: [B, 1 or N, m].
            targets: each [B, 1 or N, m].
        """
        scores = [self.score(anchor * z) for z in targets]  # each [B, 1 or N, 1]
        return torch.stack(scores).softmax(0).unbind(0)


def interact(anchor: Tensor, target: Tensor, visible: Tensor | None) -> Tensor:
    """Return l1norm(ReLU(anchor target^T)) target, parameter-free attention without a softmax.

    The rows are normalised after the product, so that one [N, M] matrix is stored and not two.

    Args:
        anchor: [B, N, m].
        target: [B, M, m].
        visible: broadcasts to [B, N, M]; False where a target token must not be met.
    """
    scores = anchor @ target.transpose(1, 2)  # [B, N, M]
    if visible is not None:
        scores = scores.masked_fill(~visible, 0)
    scores = F.relu(scores)
    return (scores @ target) / (scores.sum(-1, keepdim=True) + EPSILON)


def parallel_network(
    config: SideConfig,
    specs: Sequence[StreamSpec],
    reads: Sequence[str],
    parts: ParallelParts,
    ending: Ending,
    salient: SalientRule = OWN_TAP,
) -> SideNetwork:
    """Return the parallel side networks; ``out = U(ReLU(O))`` for the streams in ``reads``."""
    ending = replace(ending, activation=F.relu, finish=parts.finish, crossed_at_backbone_width=True)
    return SideNetwork(
        specs, reads, lambda spec: ParallelStream(spec, config, parts), ending, salient
    )


class Unipt(NetworkMethod):
    """Universal parallel tuning."""

    def build_network(self, config: SideConfig) -> SideNetwork:
        """Return the parallel side networks."""
        assert isinstance(config, UniptConfig)
        linear = config.projection == "linear"
        parts = ParallelParts(linear_projection if linear else mlp_projection)
        return parallel_network(config, self.specs, self.reads, parts, self.ending(config))
