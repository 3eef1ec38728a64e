"""Side-tuning: a side network sees the input alone, and is merged with the base once, at the end.

The input is the embedding of a stream. The source's vision networks read the pixels themselves;
that form is left out, as a side network here runs on frozen states, which are stored once and used
in every epoch, and pixels are none of them: a backbone has its own names and layouts for them.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from harness.backbones.base import Backbone, StreamSpec
from harness.registry import Config
from methods.base import SideMethod, States
from methods.cache import TokenCache
from methods.side.layers import Block, feed_forward, make_norm, sampler, side_width
from methods.side.method import Gate
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
from methods.side_tuning.merges import Film, Mlp, Product, Sum


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

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, SideTuningConfig)
        self.network = SideNetwork(self.specs, self.reads, lambda spec: InputStream(spec, config))
        self.merges = nn.ModuleDict(
            {n: make_merge(config, backbone.spec(n).width) for n in self.reads}
        )

    def side(self, states: States, cache: TokenCache | None = None) -> States:
        """Return the merged outputs of the streams that the head reads."""
        outputs = self.network(states, self.backbone, cache)
        for name, merge in self.merges.items():
            outputs[name] = merge(states[name].output, outputs[name])
        return adapted_states(outputs, states, self.backbone)

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the network with its merges, and blending weights without weight decay."""
        gates = [m for m in self.merges.values() if isinstance(m, Gate)]
        if not gates:
            return super().param_groups()
        return [
            {"params": list(self.network.parameters())},
            {"params": [gate.alpha for gate in gates], "weight_decay": 0.0},
        ]


def make_merge(config: SideTuningConfig, width: int) -> nn.Module:
    """Return the configured merge of two outputs [B, N, D]."""
    match config.merge:
        case "blend":
            return Gate(config.temperature)
        case "sum":
            return Sum()
        case "product":
            return Product()
        case "film":
            return Film(width)
        case "mlp":
            return Mlp(width)
