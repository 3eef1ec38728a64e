"""The side network of SHERL: an early route of every stream, then the backbone's last block.

Notation of the paper: v_i the down-projected tap i, q that of the deepest tap, m the side width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone, StreamSpec, StreamState, Tap
from harness.errors import UserError
from harness.memory.regions import executing
from methods.cache import TokenCache
from methods.sherl.tiers import sum_of_tiers
from methods.side.config import LayerChoice
from methods.side.layers import MixerFactory, kept_layers, make_norm, sampler, side_width
from methods.side.network import Network
from methods.side.projections import token_norm
from methods.side.salient import OWN_TAP, SalientRule


def _tiers(tap: Tap, grid: tuple[int, int] | None) -> Tensor:
    """Return a hidden state as tokens [B, N, D]; maps are pooled to ``grid``, maximum plus mean."""
    if tap.layout == "BNC" or tap.grid == grid or grid is None:
        return tap.tokens()
    pooled = F.adaptive_max_pool2d(tap.value, grid) + F.adaptive_avg_pool2d(tap.value, grid)
    return pooled.flatten(2).transpose(1, 2)


class RouteSettings(Protocol):
    """Settings of the early route, whoever holds them."""

    @property
    def reduction(self) -> int:
        """The side width is the backbone's divided by this."""

    @property
    def width(self) -> int | None:
        """The side width itself; None for what ``reduction`` says."""

    @property
    def layers(self) -> LayerChoice:
        """The hidden states to read; None for all."""

    @property
    def gate_temperature(self) -> float:
        """T of the last hidden state's weight."""


class GatedDown(nn.Module):
    """u = ReLU(W1 x), v = (W2 u + u) sigmoid(W3 u), from width D to m.

    Args:
        inputs: D.
        width: m.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.down = sampler(inputs, width)
        self.mix = sampler(width, width)
        self.gate = sampler(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, N, D] to [B, N, m]."""
        u = F.relu(self.down(x))
        return (self.mix(u) + u) * torch.sigmoid(self.gate(u))


@dataclass(frozen=True)
class RouteForm:
    """What differs between the hosts' early routes.

    Attributes:
        down: how a tap comes to width m: gated (T5, CLIP-ViL), or linear and a norm.
        mixer: makes F, which the sum goes through; None for the identity.
        output_norm: whether a norm follows W_out.
    """

    down: Literal["gated", "linear"] = "gated"
    mixer: MixerFactory | None = None
    output_norm: bool = False


def _down(spec: StreamSpec, layer: int, width: int, form: RouteForm) -> nn.Module:
    """Return what brings a hidden state to width m."""
    if form.down == "gated":
        return GatedDown(spec.tap_width(layer), width)
    return nn.Sequential(sampler(spec.tap_width(layer), width), token_norm(spec, width))


class EarlyRoute(nn.Module):
    """The multi-tiered sensing adapter of one stream (SHERL, section 3.2), token by token.

    z = F(sum_i a_i v_i) + q over the shallow taps, with the weights a of ``sum_of_tiers``;
    y = norm(W_out ReLU(z)) + tanh(alpha / T) X_deep, rectified behind the norm of maps.

    Args:
        spec: the stream.
        settings: width, taps and T.
        late: whether the stream's last block follows, so that its output is not read.
        form: what the tiers go through.
    """

    temperature: Tensor

    def __init__(
        self, spec: StreamSpec, settings: RouteSettings, late: bool, form: RouteForm
    ) -> None:
        super().__init__()
        width = side_width(spec, settings.reduction, settings.width)
        kept = kept_layers(replace(spec, stage_ends=None), settings.layers)
        self.kept = tuple(i for i in kept if not (late and i == spec.depth))
        if len(self.kept) < 2:
            raise UserError(
                f"layers={list(self.kept)}: stream '{spec.name}' needs two hidden states at least, "
                f"a deep one and a shallow one."
            )
        self.downs = nn.ModuleList(_down(spec, i, width, form) for i in self.kept)
        self.score = sampler(width, 1)
        # A tensor: autograd would keep a new one of a plain number at every step.
        temperature = torch.tensor(settings.gate_temperature)
        self.register_buffer("temperature", temperature, persistent=False)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.mixer = None if form.mixer is None else form.mixer(spec, width)
        outputs = spec.tap_width(self.kept[-1])
        self.up = sampler(width, outputs)
        self.norm = token_norm(spec, outputs) if form.output_norm else nn.Identity()
        self.rectified = form.output_norm and spec.convolutional

    def forward(self, tokens: Sequence[Tensor], salient: Tensor, mask: Tensor | None) -> Tensor:
        """Return y [B, N, D].

        Args:
            tokens: all hidden states of the stream, [B, N, D] each.
            salient: [B, D], the salient token of the deepest of them.
            mask: [B, N] bool, True where a token is real.
        """
        *shallow, q = [down(tokens[i]) for i, down in zip(self.kept, self.downs, strict=True)]
        total = sum_of_tiers(torch.stack(shallow, 2), q, self.score)  # [B, N, m]
        if self.mixer is not None:
            total = self.mixer(total, salient, mask)
        share = torch.tanh(self.alpha / self.temperature)
        y = self.norm(self.up(F.relu(total + q)))
        return (F.relu(y) if self.rectified else y) + share * tokens[self.kept[-1]]


def _ends_in_norm(spec: StreamSpec) -> bool:
    return spec.style.norm_first and not spec.convolutional


class SherlNetwork(Network):
    """An early route for every stream that is read, a late route for those that nothing crosses.

    The backbone's last block passes gradients to its input; its weights stay as they are. What is
    read ends in a new norm where the stream's blocks have their norms first.

    Args:
        settings: of the early routes.
        backbone: the frozen model; not a part of the network.
        reads: the streams that the head reads.
        form: what the tiers of the early routes go through.
        salient: which token of which hidden state is salient.
    """

    def __init__(
        self,
        settings: RouteSettings,
        backbone: Backbone,
        reads: Sequence[str],
        form: RouteForm = RouteForm(),
        salient: SalientRule = OWN_TAP,
    ) -> None:
        super().__init__()
        self.salient = salient
        crossed = {s for n in reads for s in backbone.spec(n).sources if backbone.spec(n).cross}
        self.late = tuple(name for name in reads if name not in crossed)
        specs = [spec for spec in backbone.specs if spec.name in (*reads, *crossed)]
        self.routes = nn.ModuleDict(
            {s.name: EarlyRoute(s, settings, s.name in self.late, form) for s in specs}
        )
        self.norms = nn.ModuleDict(
            {s.name: make_norm(s.style, s.width) for s in specs if _ends_in_norm(s)}
        )

    @property
    def adapts(self) -> tuple[str, ...]:
        """The streams that are read, and those that they cross."""
        return tuple(self.routes)

    def forward(
        self,
        states: Mapping[str, StreamState],
        backbone: Backbone,
        cache: TokenCache | None = None,
    ) -> dict[str, Tensor]:
        """Return [B, N, D] for each stream that is read; see ``Network.forward``."""
        outputs: dict[str, Tensor] = {}
        for name in self.routes:
            if cache is not None and name in cache.done:
                outputs[name] = cache.done[name][0]
                continue
            y = self._early(name, states[name], backbone, cache)
            if name in self.late:
                y = self._late(name, y, states, outputs, backbone, cache)
            outputs[name] = self._end(name, y, backbone)
            if cache is not None and not backbone.spec(name).causal:
                cache.done[name] = (outputs[name], None)
        return outputs

    def _end(self, name: str, y: Tensor, backbone: Backbone) -> Tensor:
        if name in self.norms:
            return self.norms[name](y)
        return backbone.finish(name, y) if name in self.late else y

    def _early(
        self, name: str, state: StreamState, backbone: Backbone, cache: TokenCache | None
    ) -> Tensor:
        route = self.routes[name]
        assert isinstance(route, EarlyRoute)
        grid = state.taps[route.kept[-1]].grid
        tokens = [_tiers(tap, grid).detach() for tap in state.taps]
        salient = self.salient.select(backbone, name, tokens, state.mask)[route.kept[-1]]
        if cache is not None:  # the salient token of a growing text is one of its first
            salient = cache.keep(self, name, salient)
        return route(tokens, salient, state.mask)

    def _late(
        self,
        name: str,
        y: Tensor,
        states: Mapping[str, StreamState],
        outputs: Mapping[str, Tensor],
        backbone: Backbone,
        cache: TokenCache | None,
    ) -> Tensor:
        spec = backbone.spec(name)
        memory = memory_mask = None
        if spec.cross:
            (source,) = spec.sources
            memory, memory_mask = outputs[source], states[source].mask
        late = None if cache is None else cache.late_cache(name, backbone.new_cache)
        with executing("backbone"):
            return backbone.run_late(
                name, y, states[name].mask, memory=memory, memory_mask=memory_mask, cache=late
            )
