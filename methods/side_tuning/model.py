"""Side-tuning: out = a base + (1 - a) side, with a side network that sees the input alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, StreamSpec
from harness.registry import Config
from methods.base import SideMethod, States
from methods.cache import TokenCache
from methods.side.layers import Block, feed_forward, make_norm, sampler, side_width
from methods.side.network import (
    SideNetwork,
    SideStream,
    SideTaps,
    SourceTokens,
    adapted_states,
    block_runner,
    join_sources,
)
from methods.side.positions import stack_positions
from methods.side_tuning import SideTuningConfig


class InputStream(SideStream):
    """A transformer of width m on the embedding of one stream; nothing else of its blocks.

    The embedding of a stream with sources is made of their frozen outputs; their side outputs are
    added to it.

    Args:
        spec: the stream.
        config: width and depth.
    """

    def __init__(self, spec: StreamSpec, config: SideTuningConfig) -> None:
        width = side_width(spec, config.reduction)
        super().__init__(spec, width)
        self.sampler = sampler(spec.tap_width(0), width)
        self.blocks = nn.ModuleList(
            Block(spec, width, feed_forward) for _ in range(config.depth or spec.depth)
        )
        self.positions = stack_positions(spec, width)
        self.norm = make_norm(spec.style, width) if spec.style.norm_first else nn.Identity()

    def forward(self, taps: SideTaps, sources: SourceTokens | None) -> Tensor:
        """Return the side output [B, N, m]."""
        s = join_sources(self.sampler(taps.tokens[0]), sources, self.spec)
        run = block_runner(taps, sources, self.spec, self.positions)
        for block in self.blocks:
            s = run(block, s, 0)
        return self.norm(s)


class SideTuning(SideMethod):
    """Side-tuning of token streams.

    Args:
        config: a ``SideTuningConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.
    """

    temperature: Tensor

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, SideTuningConfig)
        self.network = SideNetwork(self.specs, self.reads, lambda spec: InputStream(spec, config))
        # A tensor: autograd would keep a new one of a plain number at every step.
        self.register_buffer("temperature", torch.tensor(config.temperature), persistent=False)
        self.alphas = nn.ParameterDict({name: torch.zeros(()) for name in self.reads})

    def side(self, states: States, cache: TokenCache | None = None) -> States:
        """Return a base + (1 - a) side, a = sigmoid(alpha), of the streams that the head reads."""
        outputs = self.network(states, self.backbone, cache)
        for name, alpha in self.alphas.items():
            a = torch.sigmoid(alpha / self.temperature)
            outputs[name] = a * states[name].output + (1 - a) * outputs[name]
        return adapted_states(outputs, states, self.backbone)

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the network, and the blending weights without weight decay."""
        return [
            {"params": list(self.network.parameters())},
            {"params": list(self.alphas.values()), "weight_decay": 0.0},
        ]
