"""The ladder: a side transformer that takes in every block's output through a gate."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.backbones.base import StreamSpec
from methods.lst import LstConfig
from methods.side.layers import (
    Block,
    MixerFactory,
    feed_forward,
    kept_layers,
    make_norm,
    sampler,
    side_width,
)
from methods.side.method import Gate
from methods.side.network import (
    Ending,
    SideNetwork,
    SideStream,
    SideTaps,
    SourceTokens,
    block_runner,
    join_sources,
)
from methods.side.positions import stack_positions
from methods.side.salient import OWN_TAP, SalientRule


class LadderStream(SideStream):
    """The ladder of one stream (LST, section 3.2).

    s_0 = D_0(h_0) (+ the sources' side outputs); for each kept block l: s <- g_l s + (1 - g_l)
    D_l(h_l), then s <- Block_l(s); at the end a norm. A block reads the side output of streams
    that the backbone reads by cross-attention in the same way.

    Args:
        spec: the stream.
        config: the ladder's settings.
        mixer: makes the feed-forward network of a side block.
    """

    def __init__(self, spec: StreamSpec, config: LstConfig, mixer: MixerFactory) -> None:
        width = side_width(spec, config.reduction, config.width)
        super().__init__(spec, width)
        self.kept = tuple(i for i in kept_layers(spec, config.layers) if i > 0)
        bias = config.sampler_bias
        self.embedding_sampler = sampler(spec.tap_width(0), width, bias)
        self.samplers = nn.ModuleList(sampler(spec.tap_width(i), width, bias) for i in self.kept)
        self.gates = nn.ModuleList(Gate(config.gate_temperature) for _ in self.kept)
        skipped = spec.depth - len(self.kept) if config.skipped_gates else 0
        self.skipped_gates = nn.ParameterList(torch.zeros(()) for _ in range(skipped))
        self.blocks = nn.ModuleList(Block(spec, width, mixer, config.block_norm) for _ in self.kept)
        self.positions = stack_positions(spec, width)
        self.norm = make_norm(spec.style, width) if spec.style.norm_first else nn.Identity()

    def forward(self, taps: SideTaps, sources: SourceTokens | None) -> Tensor:
        """Return the side output [B, N, m]."""
        s = join_sources(self.embedding_sampler(taps.tokens[0]), sources, self.spec)
        run = block_runner(taps, sources, self.spec, self.positions)
        steps = zip(self.kept, self.samplers, self.gates, self.blocks, strict=True)
        for layer, down, gate, block in steps:
            s = gate(s, down(taps.tokens[layer]))  # [B, N, m]
            s = run(block, s, layer)
        return self.norm(s)


def ladder_network(
    config: LstConfig,
    specs: Sequence[StreamSpec],
    reads: Sequence[str],
    ending: Ending,
    mixer: MixerFactory = feed_forward,
    salient: SalientRule = OWN_TAP,
) -> SideNetwork:
    """Return the ladders of all streams, with upsamplers for the streams in ``reads``."""
    ending = replace(ending, bias=config.sampler_bias)
    return SideNetwork(
        specs, reads, lambda spec: LadderStream(spec, config, mixer), ending, salient
    )
