"""QST: a ladder whose downsamplers are low-rank and whose gates are vectors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone, StreamSpec
from harness.registry import Config
from methods.base import SideMethod, States
from methods.cache import TokenCache
from methods.qst import QstConfig
from methods.side.layers import Block, feed_forward, make_norm, side_width
from methods.side.network import (
    Ending,
    SideNetwork,
    SideStream,
    SideTaps,
    SourceTokens,
    adapted_states,
    block_runner,
    join_sources,
)
from methods.side.positions import stack_positions

LADDER_GATE, HEAD_GATE = 0.5, 1.0
"""Where the gates start, before their sigmoid."""


class LowRankDown(nn.Module):
    """LN(W2 swish(W1 x)) without biases in W1 and W2 (QST, section 3.2).

    Args:
        inputs: D.
        rank: inner size.
        width: m.
    """

    def __init__(self, inputs: int, rank: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(inputs, rank, bias=False)
        self.outer = nn.Linear(rank, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, N, D] to [B, N, m]."""
        return self.norm(self.outer(F.silu(self.inner(x))))


class VectorGate(nn.Module):
    """b a + (1 - b) c, b = sigmoid(z), one number a dimension.

    Args:
        width: of what is mixed.
        start: z at first.
    """

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.full((width,), start))

    def forward(self, a: Tensor, c: Tensor) -> Tensor:
        """Mix two tensors [..., width]."""
        b = torch.sigmoid(self.z)
        return b * a + (1 - b) * c


class QstStream(SideStream):
    """The ladder of one stream: s <- b_l s + (1 - b_l) Down_l(h_l), s <- Block_l(s).

    The embedding goes through the first block's downsampler, where it has that block's width.

    Args:
        spec: the stream.
        config: width and rank.
    """

    def __init__(self, spec: StreamSpec, config: QstConfig) -> None:
        width = side_width(spec, config.reduction)
        super().__init__(spec, width)
        layers = range(spec.depth)
        self.downs = nn.ModuleList(
            LowRankDown(spec.tap_width(i + 1), config.rank, width) for i in layers
        )
        self.embedding_down = self.downs[0]
        if spec.tap_width(0) != spec.tap_width(1):
            self.embedding_down = LowRankDown(spec.tap_width(0), config.rank, width)
        self.gates = nn.ModuleList(VectorGate(width, LADDER_GATE) for _ in layers)
        self.blocks = nn.ModuleList(Block(spec, width, feed_forward) for _ in layers)
        self.positions = stack_positions(spec, width)
        self.norm = make_norm(spec.style, width)

    def forward(self, taps: SideTaps, sources: SourceTokens | None) -> Tensor:
        """Return the side output [B, N, m]."""
        s = join_sources(self.embedding_down(taps.tokens[0]), sources, self.spec)
        run = block_runner(taps, sources, self.spec, self.positions)
        steps = zip(self.downs, self.gates, self.blocks, strict=True)
        for layer, (down, gate, block) in enumerate(steps, 1):
            s = run(block, gate(s, down(taps.tokens[layer])), layer)
        return self.norm(s)


class Qst(SideMethod):
    """Quantized side tuning; the backbone's precision is its own setting.

    Args:
        config: a ``QstConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, QstConfig)
        self.network = SideNetwork(
            self.specs, self.reads, lambda spec: QstStream(spec, config), Ending()
        )
        self.merges = nn.ModuleDict(
            {name: VectorGate(backbone.spec(name).width, HEAD_GATE) for name in self.reads}
        )

    def side(self, states: States, cache: TokenCache | None = None) -> States:
        """Return a frozen + (1 - a) side, a = sigmoid(vector), of what the head reads."""
        outputs = self.network(states, self.backbone, cache)
        for name, merge in self.merges.items():
            outputs[name] = merge(states[name].output, outputs[name])
        return adapted_states(outputs, states, self.backbone)
