"""A side network: one part a stream, run in the streams' order, then back to backbone width."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, StreamSpec, StreamState
from harness.errors import UserError
from methods.side.layers import MixerFactory, sampler, tap_tokens
from methods.side.salient import OWN_TAP, SalientRule


@dataclass(frozen=True)
class SideTaps:
    """What one stream's side network reads; nothing in it requires grad.

    Attributes:
        tokens: the hidden states [B, N, D], the embedding first.
        salients: the salient token [B, D] of each of them.
        mask: [B, N] bool, True where a token is real; None where all are.
    """

    tokens: Sequence[Tensor]
    salients: Sequence[Tensor]
    mask: Tensor | None


@dataclass(frozen=True)
class SourceTokens:
    """The side outputs of a stream's sources, concatenated in the order of the sources.

    Attributes:
        value: [B, M, m].
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


class SideNetwork(nn.Module):
    """Side streams for all needed streams, upsamplers for those that the head reads.

    Args:
        specs: the streams in their order.
        reads: names of the streams to bring back to backbone width.
        build: makes the side network of one stream.
        activation: applied to a side output before its upsampler.
        salient: which token of which hidden state is salient.
        finish: makes a residual network at backbone width behind each upsampler; None for nothing.
    """

    def __init__(
        self,
        specs: Sequence[StreamSpec],
        reads: Sequence[str],
        build: Callable[[StreamSpec], SideStream],
        activation: nn.Module | None = None,
        salient: SalientRule = OWN_TAP,
        finish: MixerFactory | None = None,
    ) -> None:
        super().__init__()
        streams = {spec.name: build(spec) for spec in specs}
        self.order = tuple(streams)
        self.streams = nn.ModuleDict(streams)
        self.bridges = nn.ModuleDict(
            {
                f"{source}_to_{name}": nn.Linear(streams[source].width, stream.width)
                for name, stream in streams.items()
                for source in stream.spec.sources
                if streams[source].width != stream.width
            }
        )
        self.salient = salient
        self.activation = activation or nn.Identity()
        self.upsamplers = nn.ModuleDict(
            {name: sampler(streams[name].width, streams[name].spec.width) for name in reads}
        )
        self.finishers = nn.ModuleDict()
        if finish is not None:
            for name in reads:
                self.finishers[name] = finish(streams[name].spec, streams[name].spec.width)

    def forward(self, states: Mapping[str, StreamState], backbone: Backbone) -> dict[str, Tensor]:
        """Return [B, N, D] for each stream that the head reads.

        Args:
            states: the frozen states, with taps.
            backbone: tells the salient token of a tap.
        """
        taps = {name: self._read(name, states[name], backbone) for name in self.order}
        sides: dict[str, Tensor] = {}
        for name in self.order:
            sides[name] = self.streams[name](taps[name], self._sources(name, states, sides))
        outputs = {
            name: upsampler(self.activation(sides[name]))
            for name, upsampler in self.upsamplers.items()
        }
        for name, finisher in self.finishers.items():
            x = outputs[name]
            outputs[name] = x + finisher(x, taps[name].salients[-1], taps[name].mask)
        return outputs

    def _read(self, name: str, state: StreamState, backbone: Backbone) -> SideTaps:
        tokens = [tap_tokens(tap).detach() for tap in state.taps]
        salients = self.salient.select(backbone, name, tokens, state.mask)
        return SideTaps(tokens, salients, state.mask)

    def _sources(
        self, name: str, states: Mapping[str, StreamState], outputs: Mapping[str, Tensor]
    ) -> SourceTokens | None:
        stream = self.streams[name]
        assert isinstance(stream, SideStream)
        sources = stream.spec.sources
        if not sources:
            return None
        values = [self._bridge(source, name, outputs[source]) for source in sources]
        masks = [_mask_of(states[source], outputs[source]) for source in sources]
        return SourceTokens(torch.cat(values, 1), torch.cat(masks, 1))

    def _bridge(self, source: str, name: str, value: Tensor) -> Tensor:
        key = f"{source}_to_{name}"
        return self.bridges[key](value) if key in self.bridges else value


def _mask_of(state: StreamState, value: Tensor) -> Tensor:
    return value.new_ones(value.shape[:2], dtype=torch.bool) if state.mask is None else state.mask


def join_sources(s: Tensor, sources: SourceTokens | None, spec: StreamSpec) -> Tensor:
    """Add the sources' side outputs to the first side state of a stream made of their tokens.

    Args:
        s: [B, N, m].
        sources: value [B, N, m], in the order of the stream's tokens; None for a first stream.
        spec: the stream.

    Raises:
        UserError: the stream's tokens are not its sources' tokens.
    """
    if sources is None:
        return s
    if sources.value.shape != s.shape:
        raise UserError(
            f"A ladder joins streams token by token, but stream '{spec.name}' has {s.shape[1]} "
            f"tokens and its sources {spec.sources} have {sources.value.shape[1]}."
        )
    return s + sources.value


def adapted_states(
    outputs: Mapping[str, Tensor], states: Mapping[str, StreamState], backbone: Backbone
) -> dict[str, StreamState]:
    """Return the states with ``outputs`` [B, N, D] in place of the frozen ones."""
    return {
        name: states[name].adapted(output, backbone.select_salient(name, output, states[name].mask))
        for name, output in outputs.items()
    }
