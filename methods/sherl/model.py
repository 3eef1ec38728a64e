"""SHERL: hidden states are summed by how little they repeat, then cross the last block.

Notation of the paper: v_i the down-projected tap i, q that of the deepest tap, m the side width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone, StreamSpec, StreamState
from harness.errors import UserError
from harness.memory.regions import executing
from harness.registry import Config
from methods.base import SideMethod, States
from methods.cache import TokenCache
from methods.sherl import SherlConfig
from methods.side.layers import (
    MixerFactory,
    kept_layers,
    make_norm,
    sampler,
    side_width,
    tap_tokens,
)
from methods.side.network import adapted_states
from methods.side.salient import OWN_TAP, SalientRule

EPSILON = 1e-6


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


class EarlyRoute(nn.Module):
    """The multi-tiered sensing adapter of one stream (SHERL, section 3.2), token by token.

    R_i = sum_j ReLU(cos(v_i, v_j)) over the shallow taps; a = l1norm_i(ReLU(w (v_i q) + b) / R_i);
    z = F(sum_i a_i v_i) + q; y = W_out ReLU(z) + tanh(alpha / T) X_deep.

    Args:
        spec: the stream.
        config: width, taps and T.
        late: whether the stream's last block follows, so that its output is not read.
        mixer: makes F; None for the identity.
    """

    temperature: Tensor

    def __init__(
        self, spec: StreamSpec, config: SherlConfig, late: bool, mixer: MixerFactory | None
    ) -> None:
        super().__init__()
        width = side_width(spec, config.reduction)
        kept = kept_layers(spec, config.layers)
        self.kept = tuple(i for i in kept if not (late and i == spec.depth))
        if len(self.kept) < 2:
            raise UserError(
                f"layers={list(self.kept)}: stream '{spec.name}' needs two hidden states at least, "
                f"a deep one and a shallow one."
            )
        self.downs = nn.ModuleList(GatedDown(spec.width, width) for _ in self.kept)
        self.score = sampler(width, 1)
        # A tensor: autograd would keep a new one of a plain number at every step.
        temperature = torch.tensor(config.gate_temperature)
        self.register_buffer("temperature", temperature, persistent=False)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.mixer = None if mixer is None else mixer(spec, width)
        self.up = sampler(width, spec.width)

    def forward(self, tokens: Sequence[Tensor], salient: Tensor, mask: Tensor | None) -> Tensor:
        """Return y [B, N, D].

        Args:
            tokens: all hidden states of the stream, [B, N, D] each.
            salient: [B, D], the salient token of the deepest of them.
            mask: [B, N] bool, True where a token is real.
        """
        *shallow, q = [down(tokens[i]) for i, down in zip(self.kept, self.downs, strict=True)]
        v = torch.stack(shallow, 2)  # [B, N, L, m]
        unit = F.normalize(v, dim=-1)
        redundancy = F.relu(unit @ unit.transpose(2, 3)).sum(-1, keepdim=True)  # [B, N, L, 1]
        weights = F.relu(self.score(v * q[:, :, None])) / redundancy.clamp_min(EPSILON)
        weights = weights / (weights.sum(2, keepdim=True) + EPSILON)
        total = (weights * v).sum(2)  # [B, N, m]
        if self.mixer is not None:
            total = self.mixer(total, salient, mask)
        share = torch.tanh(self.alpha / self.temperature)
        return self.up(F.relu(total + q)) + share * tokens[self.kept[-1]]


class Sherl(SideMethod):
    """An early route for every stream that is read, a late route for those that the head reads.

    The backbone's last block passes gradients to its input; its weights stay as they are. What a
    head reads ends in a new norm where the stream's blocks have their norms first.

    Args:
        config: a ``SherlConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.
    """

    def __init__(
        self,
        config: Config,
        backbone: Backbone,
        reads: Sequence[str],
        mixer: MixerFactory | None = None,
        salient: SalientRule = OWN_TAP,
    ) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, SherlConfig)
        self.salient = salient
        crossed = {s for n in reads for s in backbone.spec(n).sources if backbone.spec(n).cross}
        self.order = tuple(s.name for s in self.specs if s.name in (*reads, *crossed))
        self.routes = nn.ModuleDict(
            {
                name: EarlyRoute(backbone.spec(name), config, name in reads, mixer)
                for name in self.order
            }
        )
        self.norms = nn.ModuleDict(
            {
                name: make_norm(backbone.spec(name).style, backbone.spec(name).width)
                for name in self.order
                if backbone.spec(name).style.norm_first
            }
        )

    def side(self, states: States, cache: TokenCache | None = None) -> States:
        """Return the adapted states of the streams that the head reads."""
        outputs: dict[str, Tensor] = {}
        for name in self.order:
            if cache is not None and name in cache.done:
                outputs[name] = cache.done[name][0]
                continue
            y = self._early(name, states[name], cache)
            if name in self.reads:
                y = self._late(name, y, states, outputs, cache)
            outputs[name] = self.norms[name](y) if name in self.norms else y
            if cache is not None and not self.backbone.spec(name).causal:
                cache.done[name] = (outputs[name], None)
        return adapted_states(outputs, states, self.backbone)

    def _early(self, name: str, state: StreamState, cache: TokenCache | None) -> Tensor:
        route = self.routes[name]
        tokens = [tap_tokens(tap).detach() for tap in state.taps]
        salients = self.salient.select(self.backbone, name, tokens, state.mask)
        salient = salients[route.kept[-1]]  # type: ignore[index,union-attr]
        if cache is not None:
            salient = cache.keep(self, name, salient)
        return route(tokens, salient, state.mask)

    def _late(
        self,
        name: str,
        y: Tensor,
        states: States,
        outputs: dict[str, Tensor],
        cache: TokenCache | None,
    ) -> Tensor:
        spec = self.backbone.spec(name)
        memory = memory_mask = None
        if spec.cross:
            (source,) = spec.sources
            memory, memory_mask = outputs[source], states[source].mask
        late = None if cache is None else cache.late_cache(name, self.backbone.new_cache)
        with executing("backbone"):
            return self.backbone.run_late(
                name, y, states[name].mask, memory=memory, memory_mask=memory_mask, cache=late
            )

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the early routes and the new norms."""
        return {"side": list(self.routes.parameters()), "norms": list(self.norms.parameters())}
