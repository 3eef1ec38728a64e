"""A side network: one part a stream, run in the streams' order, then back to backbone width."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, StreamSpec, StreamState, Tap
from harness.errors import UserError
from methods.cache import TokenCache
from methods.side.layers import MixerFactory, sampler
from methods.side.positions import RelativePositions
from methods.side.salient import OWN_TAP, SalientRule


@dataclass(frozen=True)
class SideTaps:
    """What one stream's side network reads; nothing in it requires grad.

    Attributes:
        tokens: the hidden states [B, N, D], the embedding first; maps are averaged to the grid of
            the last one.
        salients: the salient token [B, D] of each of them.
        mask: [B, N] bool, True where a token is real; None where all are.
        states: the hidden states as the backbone has them, maps in full.
        cache: what the side network has seen of earlier tokens, where text is written token by
            token; ``tokens`` are the new ones alone.
    """

    tokens: Sequence[Tensor]
    salients: Sequence[Tensor]
    mask: Tensor | None
    states: Sequence[Tap] = ()
    cache: TokenCache | None = None


@dataclass(frozen=True)
class SourceTokens:
    """The adapted tokens of a stream's sources, concatenated in the order of the sources.

    Attributes:
        value: [B, M, m], or [B, M, D] where the network reads its sources at backbone width.
        mask: [B, M] bool, True where a token is real; None where all are.
    """

    value: Tensor
    mask: Tensor | None


class SideStream(nn.Module, ABC):
    """The side network of one stream.

    Args:
        spec: the stream.
        width: m.
    """

    def __init__(self, spec: StreamSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.width = width

    @abstractmethod
    def forward(self, taps: SideTaps, sources: SourceTokens | None) -> Tensor:
        """Return the side output [B, N, m]."""


@dataclass(frozen=True)
class Ending:
    """What follows a stream's side output, on its way back to backbone width.

    Attributes:
        activation: applied before the upsampler; None for nothing.
        bias: whether the upsampler has one.
        finish: makes a residual network at backbone width behind the upsampler; None for nothing.
        norm: makes the norm of a stream's adapted output, by its name; None for nothing.
        embedded: whether the upsampler ends at the embedding's width E and not at D.
        crossed_at_backbone_width: whether a stream that reads another by cross-attention reads its
            adapted output [B, M, D] and not its side output [B, M, m].
    """

    activation: Callable[[Tensor], Tensor] | None = None
    bias: bool = True
    finish: MixerFactory | None = None
    norm: Callable[[str], nn.Module] | None = None
    embedded: bool = False
    crossed_at_backbone_width: bool = False


class Network(nn.Module, ABC):
    """What a side method consists of: from frozen states to adapted outputs.

    Attributes:
        norms: the trained norms that end adapted outputs, by stream.
        embeds: whether an output is one token, the embedding that compares samples.
    """

    norms: nn.ModuleDict
    embeds: ClassVar[bool] = False

    @property
    @abstractmethod
    def adapts(self) -> tuple[str, ...]:
        """The streams that it returns."""

    @abstractmethod
    def forward(
        self,
        states: Mapping[str, StreamState],
        backbone: Backbone,
        cache: TokenCache | None = None,
    ) -> dict[str, Tensor]:
        """Return [B, N, D] for each stream that is read at backbone width.

        Args:
            states: the frozen states, with taps.
            backbone: tells the salient token of a tap, and runs its late block.
            cache: what was seen of earlier tokens, where text is written token by token.
        """

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of ``norms``, and all others as ``side``."""
        norms = list(self.norms.parameters())
        ending = {id(p) for p in norms}
        return {"side": [p for p in self.parameters() if id(p) not in ending], "norms": norms}


class SideNetwork(Network):
    """Side streams for all needed streams, upsamplers for those that are read at full width.

    Args:
        specs: the streams in their order.
        reads: names of the streams that the head reads.
        build: makes the side network of one stream.
        ending: what follows the side outputs.
        salient: which token of which hidden state is salient.
    """

    def __init__(
        self,
        specs: Sequence[StreamSpec],
        reads: Sequence[str],
        build: Callable[[StreamSpec], SideStream],
        ending: Ending = Ending(),
        salient: SalientRule = OWN_TAP,
    ) -> None:
        super().__init__()
        streams = {spec.name: build(spec) for spec in with_blocks(specs)}
        self.order = tuple(streams)
        self.ending = ending
        self.salient = salient
        self.streams = nn.ModuleDict(streams)
        self.bridges = nn.ModuleDict(
            {
                f"{source}_to_{name}": nn.Linear(streams[source].width, stream.width)
                for name, stream in streams.items()
                for source in stream.spec.sources
                if streams[source].width != stream.width and not self._reads_full_width(stream)
            }
        )
        crossed = {s for x in streams.values() if self._reads_full_width(x) for s in x.spec.sources}
        upsampled = [name for name in self.order if name in (*reads, *crossed)]
        self.upsamplers = nn.ModuleDict(
            {n: sampler(streams[n].width, self._end_width(n), ending.bias) for n in upsampled}
        )
        self.finishers = nn.ModuleDict()
        if ending.finish is not None:
            for name in upsampled:
                self.finishers[name] = ending.finish(streams[name].spec, streams[name].spec.width)
        self.norms = nn.ModuleDict()
        if ending.norm is not None:
            self.norms.update({name: ending.norm(name) for name in upsampled})

    @property
    def adapts(self) -> tuple[str, ...]:
        """The streams that are brought back to backbone width."""
        return tuple(self.upsamplers)

    def forward(
        self,
        states: Mapping[str, StreamState],
        backbone: Backbone,
        cache: TokenCache | None = None,
    ) -> dict[str, Tensor]:
        """Return [B, N, D] for each stream that is read at backbone width.

        Args:
            states: the frozen states, with taps.
            backbone: tells the salient token of a tap.
            cache: what was seen of earlier tokens, where text is written token by token.
        """
        sides: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        for name in self.order:
            if cache is not None and name in cache.done:
                side, output = cache.done[name]
            else:
                taps = self._read(name, states[name], backbone, cache)
                side = self.streams[name](taps, self._sources(name, states, sides, outputs))
                output = self._end(name, side, taps) if name in self.upsamplers else None
                if cache is not None and not self._spec(name).causal:
                    cache.done[name] = (side, output)
            sides[name] = side
            if output is not None:
                outputs[name] = output
        return outputs

    def _end(self, name: str, side: Tensor, taps: SideTaps) -> Tensor:
        """Bring a side output [B, N, m] back to backbone width."""
        if self.ending.activation is not None:
            side = self.ending.activation(side)
        x = self.upsamplers[name](side)
        if name in self.finishers:
            x = x + self.finishers[name](x, taps.salients[-1], taps.mask)
        return self.norms[name](x) if name in self.norms else x

    def _read(
        self, name: str, state: StreamState, backbone: Backbone, cache: TokenCache | None
    ) -> SideTaps:
        tokens = tap_tokens(state)
        salients = self.salient.select(backbone, name, tokens, state.mask)
        if cache is not None:  # the salient token of a growing text is one of its first
            salients = [cache.keep(self, f"{name}.{i}", h0) for i, h0 in enumerate(salients)]
        return SideTaps(tokens, salients, state.mask, state.taps, cache)

    def _sources(
        self,
        name: str,
        states: Mapping[str, StreamState],
        sides: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
    ) -> SourceTokens | None:
        stream = self.streams[name]
        assert isinstance(stream, SideStream)
        sources = stream.spec.sources
        if not sources:
            return None
        if self._reads_full_width(stream):
            values = [outputs[source] for source in sources]
        else:
            values = [self._bridge(source, name, sides[source]) for source in sources]
        masks = [_mask_of(states[s], value) for s, value in zip(sources, values, strict=True)]
        return SourceTokens(torch.cat(values, 1), torch.cat(masks, 1))

    def _bridge(self, source: str, name: str, value: Tensor) -> Tensor:
        key = f"{source}_to_{name}"
        return self.bridges[key](value) if key in self.bridges else value

    def _reads_full_width(self, stream: SideStream) -> bool:
        return stream.spec.cross and self.ending.crossed_at_backbone_width

    def _end_width(self, name: str) -> int:
        spec = self._spec(name)
        return embedding_width(spec) if self.ending.embedded else spec.width

    def _spec(self, name: str) -> StreamSpec:
        stream = self.streams[name]
        assert isinstance(stream, SideStream)
        return stream.spec


def tap_tokens(state: StreamState) -> list[Tensor]:
    """Return the hidden states as tokens [B, N, D], maps averaged to the grid of the last one."""
    return [tap.tokens(state.taps[-1].grid).detach() for tap in state.taps]


def with_blocks(specs: Sequence[StreamSpec]) -> list[StreamSpec]:
    """Return the streams that have blocks, and among their sources only such streams."""
    kept = {spec.name for spec in specs if spec.depth}
    return [
        replace(spec, sources=tuple(s for s in spec.sources if s in kept))
        for spec in specs
        if spec.name in kept
    ]


def _mask_of(state: StreamState, value: Tensor) -> Tensor:
    return value.new_ones(value.shape[:2], dtype=torch.bool) if state.mask is None else state.mask


def block_runner(
    taps: SideTaps,
    sources: SourceTokens | None,
    spec: StreamSpec,
    positions: RelativePositions | None,
) -> Callable[[nn.Module, Tensor, int], Tensor]:
    """Return ``run(block, s, layer)``: a side block on tokens s [B, N, m] fed by a hidden state."""
    crossed = sources if spec.cross else None

    def run(block: nn.Module, s: Tensor, layer: int) -> Tensor:
        return block(
            s,
            taps.mask,
            taps.salients[layer],
            None if crossed is None else crossed.value,
            None if crossed is None else crossed.mask,
            positions,
            taps.cache,
        )

    return run


def join_sources(s: Tensor, sources: SourceTokens | None, spec: StreamSpec) -> Tensor:
    """Add the sources' side outputs to the first side state of a stream made of their tokens.

    Args:
        s: [B, N, m].
        sources: value [B, N, m], in the order of the stream's tokens; None for a first stream.
        spec: the stream; one that reads its sources by cross-attention is left as it is.

    Raises:
        UserError: the stream's tokens are not its sources' tokens.
    """
    if sources is None or spec.cross:
        return s
    if sources.value.shape != s.shape:
        raise UserError(
            f"A ladder joins streams token by token, but stream '{spec.name}' has {s.shape[1]} "
            f"tokens and its sources {spec.sources} have {sources.value.shape[1]}."
        )
    return s + sources.value


def embedding_width(spec: StreamSpec) -> int:
    """Return E of a stream.

    Raises:
        UserError: it has no embedding.
    """
    if spec.embedding_width is None:
        raise UserError(
            f"method.output: stream '{spec.name}' has no embedding that compares it with others, "
            f"as those of clip and vse have; leave method.output=state."
        )
    return spec.embedding_width


def adapted_states(
    outputs: Mapping[str, Tensor],
    states: Mapping[str, StreamState],
    backbone: Backbone,
    embeds: bool = False,
) -> dict[str, StreamState]:
    """Return the states with ``outputs`` in place of the frozen ones.

    Args:
        outputs: [B, N, D] by stream, or [B, 1, E].
        states: the frozen states.
        backbone: tells a stream's salient token.
        embeds: whether an output is one token, the embedding.
    """
    if embeds:
        return {
            name: replace(states[name].adapted(output, output[:, 0]), mask=None)
            for name, output in outputs.items()
        }
    return {
        name: states[name].adapted(output, backbone.select_salient(name, output, states[name].mask))
        for name, output in outputs.items()
    }
