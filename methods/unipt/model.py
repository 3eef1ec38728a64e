"""Universal parallel tuning: every tap meets the anchor, a confidence weighs the meetings.

Notation of the paper: Z_l the down-projected tap l, Z_a the anchor (the last tap), m the width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import StreamSpec
from harness.errors import UserError
from methods.cache import remember
from methods.side.config import SideConfig
from methods.side.embedding import EmbeddingNetwork
from methods.side.layers import MixerFactory, causal_mask, kept_layers, side_width
from methods.side.maps import GuidedPool
from methods.side.method import NetworkMethod
from methods.side.network import (
    Ending,
    Network,
    SideNetwork,
    SideStream,
    SideTaps,
    SourceTokens,
)
from methods.side.projections import LinearProjection, MlpProjection, token_norm
from methods.side.salient import OWN_TAP, SalientRule, masked_mean
from methods.unipt import UniptConfig
from methods.unipt.confidence import Confidence, interact
from methods.unipt.embedding import MeetingStream


@dataclass(frozen=True)
class ParallelParts:
    """What a host may put into a parallel side network.

    Attributes:
        projection: makes P.
        meeting: makes what each M_l goes through; None for nothing.
        finish: makes a residual network behind the upsampler; None for nothing.
        crossing: what a stream makes of the side output of one that it reads by cross-attention:
            one more target, at backbone width, or an addition to every target of its own.
        map_pooling: how maps come to the grid of the last one.
        activation: whether a ReLU stands before the upsampler.
    """

    projection: MixerFactory = LinearProjection
    meeting: MixerFactory | None = None
    finish: MixerFactory | None = None
    crossing: Literal["meeting", "targets"] = "meeting"
    map_pooling: Literal["guided", "mean"] = "mean"
    activation: bool = True


class ParallelStream(SideStream):
    """The parallel side network of one stream (UniPT, section 3.2).

    Z_l = LN(D_l h_l); A_l = l1norm(ReLU(Z_a Z_l^T)) + I; M_l = A_l Z_l;
    O = Z_a + P(sum_l c_l M_l), with the confidence c of ``Confidence``.

    The sources' side outputs are one more target, without the identity: their tokens need not be
    this stream's. Sources that are read by cross-attention come at backbone width and pass the
    anchor's filter; or (``crossing``) their side outputs S are added to the stream's own
    targets, Z_l + LN(W_l l1norm(ReLU(Z_l S^T)) S), as on MDETR. The norms of a convolutional
    stream are batch norms.

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
        width = side_width(spec, config.reduction, config.width)
        super().__init__(spec, width)
        self.kept = kept_layers(spec, config.layers)
        if len(self.kept) < 2:
            raise UserError(
                f"layers={list(self.kept)}: a parallel side network needs two hidden states at "
                f"least, an anchor (the last) and a target."
            )
        self.samplers = nn.ModuleList(
            nn.Sequential(nn.Linear(spec.tap_width(i), width), token_norm(spec, width))
            for i in self.kept
        )
        self.pools = nn.ModuleList()
        if spec.convolutional and parts.map_pooling == "guided":
            self.pools.extend(GuidedPool(spec.width, spec.tap_width(i)) for i in self.kept[:-1])
        self.crossers = nn.ModuleList()
        if spec.cross and parts.crossing == "targets":
            self.crossers.extend(
                nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width)) for _ in self.kept[1:]
            )
        self.confidence = Confidence(width)
        self.projection = parts.projection(spec, width)
        self.meetings = nn.ModuleList()
        if parts.meeting is not None:
            self.meetings.extend(parts.meeting(spec, width) for _ in self.kept[1:])

    def forward(self, taps: SideTaps, sources: SourceTokens | None) -> Tensor:
        """Return the side output O [B, N, m]."""
        *targets, anchor = self._filter(taps)  # each [B, N, m]
        if len(self.crossers) and sources is not None:
            seen = _seen(sources)
            targets = [
                z + cross(interact(z, sources.value, seen))
                for cross, z in zip(self.crossers, targets, strict=True)
            ]
        known = [remember(taps.cache, self, f"z{i}", z, 1) for i, z in enumerate(targets)]
        visible = self._visible(anchor, known[0], taps.mask)
        meetings = [
            interact(anchor, past, visible) + z for past, z in zip(known, targets, strict=True)
        ]
        for i, follow in enumerate(self.meetings):
            meetings[i] = follow(meetings[i], taps.salients[self.kept[i]], taps.mask)
        means = [self._summary(z, taps.mask) for z in targets]
        if sources is not None and not len(self.crossers):
            seen = _seen(sources)
            value = self.samplers[-1](sources.value) if self.spec.cross else sources.value
            meetings.append(interact(anchor, value, seen))
            means.append(masked_mean(value, sources.mask))
        weights = self.confidence(self._summary(anchor, taps.mask), means)
        total = sum(
            (c * m for c, m in zip(weights, meetings, strict=True)), torch.zeros_like(anchor)
        )
        return anchor + self.projection(total, taps.salients[self.kept[-1]], taps.mask)

    def _filter(self, taps: SideTaps) -> list[Tensor]:
        """Return the kept hidden states at width m, [B, N, m] each, the anchor last."""
        tokens = [taps.tokens[layer] for layer in self.kept]
        for i, pool in enumerate(self.pools):
            grid = taps.states[self.kept[-1]].grid
            assert grid is not None
            tokens[i] = pool(taps.states[self.kept[i]].value, tokens[-1], grid)
        return [down(x) for down, x in zip(self.samplers, tokens, strict=True)]

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


def parallel_network(
    config: SideConfig,
    specs: Sequence[StreamSpec],
    reads: Sequence[str],
    parts: ParallelParts,
    ending: Ending,
    salient: SalientRule = OWN_TAP,
) -> SideNetwork:
    """Return the parallel side networks; ``out = U(ReLU(O))`` for the streams in ``reads``.

    With ``crossing="targets"`` what is crossed is read at side width alone, as in the released
    code: no upsampler follows it, and a head reads its frozen state.
    """
    ending = replace(
        ending,
        activation=F.relu if parts.activation else None,
        finish=parts.finish,
        crossed_at_backbone_width=parts.crossing == "meeting",
    )
    if parts.crossing == "targets":
        crossed = {source for spec in specs if spec.cross for source in spec.sources}
        reads = [name for name in reads if name not in crossed]
    return SideNetwork(
        specs, reads, lambda spec: ParallelStream(spec, config, parts), ending, salient
    )


def _seen(sources: SourceTokens) -> Tensor | None:
    """Return which source tokens are real, [B, 1, M] bool; None where all are."""
    return None if sources.mask is None else sources.mask[:, None, :]


class Unipt(NetworkMethod):
    """Universal parallel tuning."""

    config: UniptConfig

    def build_network(self, config: SideConfig) -> Network:
        """Return the parallel side networks, or those of the streams' embeddings."""
        assert isinstance(config, UniptConfig)
        if config.output == "embedding":
            return EmbeddingNetwork(self.backbone, self.reads, self._meeting)
        parts = ParallelParts(
            LinearProjection if config.projection == "linear" else MlpProjection,
            crossing=config.crossing,
            map_pooling=config.map_pooling,
            activation=config.activation == "relu",
        )
        return parallel_network(config, self.specs, self.reads, parts, self.ending(config))

    def ending(self, config: SideConfig) -> Ending:
        """Return what follows the side outputs, at the width that ``output`` says."""
        assert isinstance(config, UniptConfig)
        if config.output == "projected":
            return Ending(embedded=True)
        return super().ending(config)

    @property
    def embedded(self) -> tuple[str, ...]:
        """The streams whose states are at the embedding's width."""
        return () if self.config.output == "state" else self.reads

    def _meeting(self, spec: StreamSpec) -> MeetingStream:
        width = side_width(spec, self.config.reduction, self.config.width)
        return MeetingStream(spec, width, kept_layers(spec, self.config.layers))
