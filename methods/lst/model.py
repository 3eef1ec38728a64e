"""Ladder side-tuning: a side transformer that takes in every block's output through a gate."""

from collections.abc import Sequence

from torch import Tensor, nn

from harness.backbones.base import StreamSpec
from methods.lst import LstConfig
from methods.side.config import SideConfig
from methods.side.layers import (
    Block,
    MixerFactory,
    feed_forward,
    kept_layers,
    sampler,
    side_width,
)
from methods.side.method import Gate, NetworkMethod
from methods.side.network import (
    SideNetwork,
    SideStream,
    SideTaps,
    SourceTokens,
    join_sources,
)
from methods.side.salient import OWN_TAP, SalientRule


class LadderStream(SideStream):
    """The ladder of one stream (LST, section 3.2).

    s_0 = D_0(h_0) (+ the sources' side outputs); for each kept block l: s <- g_l s + (1 - g_l)
    D_l(h_l), then s <- Block_l(s); at the end a norm.

    Args:
        spec: the stream.
        config: the ladder's settings.
        mixer: makes the feed-forward network of a side block.
    """

    def __init__(self, spec: StreamSpec, config: LstConfig, mixer: MixerFactory) -> None:
        width = side_width(spec, config.reduction)
        super().__init__(spec, width)
        self.kept = tuple(i for i in kept_layers(spec, config.layers) if i > 0)
        self.embedding_sampler = sampler(spec.width, width)
        self.samplers = nn.ModuleList(sampler(spec.width, width) for _ in self.kept)
        self.gates = nn.ModuleList(Gate(config.gate_temperature) for _ in self.kept)
        self.blocks = nn.ModuleList(Block(spec, width, mixer, config.block_norm) for _ in self.kept)
        self.norm = nn.LayerNorm(width)

    def forward(self, taps: SideTaps, sources: SourceTokens | None) -> Tensor:
        """Return the side output [B, N, m]."""
        s = join_sources(self.embedding_sampler(taps.tokens[0]), sources, self.spec)
        steps = zip(self.kept, self.samplers, self.gates, self.blocks, strict=True)
        for layer, down, gate, block in steps:
            s = gate(s, down(taps.tokens[layer]))  # [B, N, m]
            s = block(s, taps.mask, taps.salients[layer])
        return self.norm(s)


def ladder_network(
    config: LstConfig,
    specs: Sequence[StreamSpec],
    reads: Sequence[str],
    mixer: MixerFactory = feed_forward,
    salient: SalientRule = OWN_TAP,
) -> SideNetwork:
    """Return the ladders of all streams, with upsamplers for the streams in ``reads``."""
    return SideNetwork(
        specs, reads, lambda spec: LadderStream(spec, config, mixer), salient=salient
    )


class Lst(NetworkMethod):
    """Ladder side-tuning."""

    def build_network(self, config: SideConfig) -> SideNetwork:
        """Return the ladders."""
        assert isinstance(config, LstConfig)
        return ladder_network(config, self.specs, self.reads)
