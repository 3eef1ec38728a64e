"""MP-ISMoE: GNP-IQ on the frozen backbone (Eq. 1-5), ISMoE in its side network (Eq. 6-8)."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, Inputs, StreamSpec, StreamState
from harness.errors import UserError
from harness.registry import Config
from methods.base import FitContext, States
from methods.cache import TokenCache
from methods.experts.ismoe import ISMoE, balance_loss, dead_experts, mixtures, take_statistics
from methods.lst.ladder import ladder_network
from methods.mp_ismoe import MpIsmoeConfig
from methods.mp_ismoe.precision import compute_context, hold_in_half
from methods.quantization.masters import masters_of
from methods.quantization.modules import layer_mses, mean_mse, quantize_modules
from methods.quantization.requantize import Requantizer
from methods.sherl.network import RouteForm, SherlNetwork
from methods.side.config import SideConfig
from methods.side.layers import MixerFactory, feed_forward
from methods.side.method import NetworkMethod
from methods.side.network import Network
from methods.side.projections import token_norm
from methods.side.salient import SalientRule
from methods.unipt.model import ParallelParts, parallel_network


class ExpertProjection(nn.Module):
    """LN(ISMoE(x)), a mixture of experts whose outputs are normalised.

    On UniPT it is the projection P, O = Z_a + LN(ISMoE(sum_l c_l M_l)); on SHERL it follows the sum
    of tiers, z = LN(ISMoE(sum_i a_i v_i)) + q.

    Args:
        experts: the mixture.
        norm: of tokens [B, N, m].
    """

    def __init__(self, experts: ISMoE, norm: nn.Module) -> None:
        super().__init__()
        self.experts = experts
        self.norm = norm

    def forward(self, x: Tensor, salient: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, N, m] to [B, N, m], given the anchor's salient token [B, D]."""
        return self.norm(self.experts(x, salient, mask))


class MpIsmoe(NetworkMethod):
    """MP-ISMoE on UniPT, SHERL or LST.

    The backbone's weights become codes at once (round to nearest); ``on_fit_start`` chooses them by
    calibration rows where the configuration says so, and re-quantisation rounds follow in epochs.

    Args:
        config: an ``MpIsmoeConfig``.
        backbone: the frozen model, whose linear and embedding layers are replaced.
        reads: the streams that the head reads.
    """

    config: MpIsmoeConfig
    requantizer: Requantizer | None

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        assert isinstance(config, MpIsmoeConfig)
        _check_salient(config, backbone)
        # Drawn first, so that codes, and features of them, are the same for any side network.
        noise = _generator()
        super().__init__(config, backbone, reads)
        self.config = config
        names = [*backbone.quantizable()] if config.quantizes else []
        if config.tensors == "all" and config.embedding_bits is not None:
            names += backbone.position_embeddings()
        masters = masters_of(backbone, names)
        self.quantized = quantize_modules(backbone, names, config)
        self.requantizer = None
        if masters is not None:
            self.requantizer = Requantizer(self.quantized, masters, config, noise)
        for parameter in self._backbone_norms():
            parameter.requires_grad_(True)
        if config.precision == "low":
            for part in (backbone, self.network, self.merges):
                hold_in_half(part)

    def build_network(self, config: SideConfig) -> Network:
        """Return the host's side network with experts in it."""
        assert isinstance(config, MpIsmoeConfig)
        salient = SalientRule(config.salient_layer, config.salient_token)
        if config.host == "sherl":
            mixer = partial(_normed_experts, config) if config.mixture else None
            form = RouteForm(mixer=mixer)
            return SherlNetwork(config, self.backbone, self.reads, form, salient)
        ending = self.ending(config)
        if config.host == "lst":
            experts = _experts(config, True) if config.mixture else feed_forward
            return ladder_network(config, self.specs, self.reads, ending, experts, salient)
        parts = _parallel_parts(config)
        return parallel_network(config, self.specs, self.reads, parts, ending, salient)

    def encode(
        self, stream: str, inputs: Inputs, states: Mapping[str, StreamState], cache: Any = None
    ) -> StreamState:
        """Return the frozen state of one stream, computed in the configured precision."""
        with compute_context(self.config.precision, self._device):
            return super().encode(stream, inputs, states, cache)

    def side(self, states: States, cache: TokenCache | None = None) -> States:
        """Return the adapted states, computed in the configured precision, as heads read them."""
        with compute_context(self.config.precision, self._device):
            adapted = super().side(states, cache)
        if self.config.precision == "amp":
            return adapted
        return {n: s.adapted(s.output.float(), s.salient.float()) for n, s in adapted.items()}

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def on_fit_start(self, ctx: FitContext) -> None:
        """Choose the first codes by calibration rows, where the configuration asks for it."""
        if self.config.needs_initialisation:
            with ctx.phase("init"):
                self._calibrate(ctx)
                self._requantizer.initialise()
                self._requantizer.forget_calibration()

    def on_epoch_start(self, ctx: FitContext, epoch: int) -> None:
        """Re-quantise with noise before the epochs that the configuration names."""
        if self.config.requantizes_at(epoch, ctx.epochs):
            with ctx.phase("requantize"):
                if self.config.needs_calibration:
                    self._calibrate(ctx)
                self._requantizer.round()
                self._requantizer.forget_calibration()

    def _calibrate(self, ctx: FitContext) -> None:
        def run_forward() -> None:
            for batch in ctx.calibration(self.config.calibration_rows):
                self.frozen(batch.inputs)

        self._requantizer.calibrate(run_forward)

    @property
    def _requantizer(self) -> Requantizer:
        if self.requantizer is None:
            raise RuntimeError("a backbone without weights (fake or meta) cannot be quantised")
        return self.requantizer

    def _backbone_norms(self) -> list[nn.Parameter]:
        """Return the backbone's own norms that count as trainable: all, the late ones, or none."""
        names: list[str] = []
        if self.config.train_norms == "counted_no_grad":
            names = [name for spec in self.specs for name in self.backbone.norms(spec.name)]
        elif self.config.train_norms == "late_only":
            names = self._late_norms()
        return [p for name in names for p in self.backbone.get_submodule(name).parameters()]

    def _late_norms(self) -> list[str]:
        """Return the norms of the blocks that train; not of a stream that a frozen one reads."""
        assert isinstance(self.network, SherlNetwork)
        read = {source for spec in self.specs for source in spec.sources}
        late = [name for name in self.network.late if name not in read]
        return [
            norm
            for stream in late
            for norm in self.backbone.norms(stream)
            if norm.startswith(f"{self.backbone.blocks(stream)[-1]}.")
        ]

    def extra_loss(self) -> Tensor | None:
        """Return the load-balancing loss of the last forward pass, where it has a coefficient."""
        return balance_loss(mixtures(self.network))

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return experts (routers included), the rest of the side network, and norms."""
        experts = [p for m in mixtures(self.network) for p in m.parameters()]
        known = {id(p) for p in experts}
        parts = super().parts()
        parts["side"] = [p for p in parts["side"] if id(p) not in known]
        parts["norms"] = [*parts["norms"], *self._backbone_norms()]
        return {**parts, "experts": experts}

    def extra_state(self) -> dict[str, Tensor]:
        """Return codes, grids and the record of noise, experts' loads, and what others keep."""
        loads = {f"load.{i}": m.last_load for i, m in enumerate(mixtures(self.network))}
        return {**super().extra_state(), **loads, **self._requantizer.state_dict()}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``extra_state`` returned."""
        super().load_extra_state(state)
        for i, mixture in enumerate(mixtures(self.network)):
            if f"load.{i}" in state:  # an adaptation of an earlier revision has none
                mixture.last_load.copy_(state[f"load.{i}"])
        self._requantizer.load_state_dict(state)

    def backbone_state_hash(self) -> str:
        """Return sha256 over all codes and grids, and how they are computed with."""
        return f"{self._requantizer.state_hash()}:{self.config.precision}:{self.config.compute}"

    def statistics(self) -> dict[str, Any]:
        """Return expert load, router entropy and quantisation error, and count anew."""
        counted = take_statistics(mixtures(self.network))
        if self.config.quantizes:  # else the backbone's own codes are what it tells
            counted["quantization_mse"] = mean_mse(self.quantized)
        return counted

    def quality(self) -> dict[str, Any]:
        """Return the number of experts that nothing chose, and errors of what it quantised."""
        dead = {"dead_experts": dead_experts(mixtures(self.network))}
        if not self.config.quantizes:
            return dead
        errors = layer_mses(self.quantized) or None
        return {
            **dead,
            "quantization_mse": mean_mse(self.quantized),
            "layer_quantization_mse": errors,
        }

    def host_bytes(self) -> dict[str, int]:
        """Return the peak bytes of masters (one tensor) and of calibration, if it quantises."""
        return self._requantizer.host_bytes() if self.config.quantizes else {}


def _check_salient(config: MpIsmoeConfig, backbone: Backbone) -> None:
    """Raise UserError where a norm that trains would change a salient token taken for frozen."""
    widths = any(spec.widths for spec in backbone.specs)
    if config.train_norms == "late_only" and config.salient_layer == "tap" and widths:
        raise UserError(
            "train_norms=late_only changes the last hidden state, from which every salient token "
            "comes where hidden states differ in width; choose salient_layer=embedding, or "
            "train_norms=side_copy."
        )


def _experts(config: MpIsmoeConfig, replicate: bool) -> MixerFactory:
    return lambda spec, width: ISMoE(config, width, spec.width, replicate)


def _normed_experts(config: MpIsmoeConfig, spec: StreamSpec, width: int) -> ExpertProjection:
    experts = ISMoE(config, width, spec.width, replicate=False)
    return ExpertProjection(experts, token_norm(spec, width))


def _parallel_parts(config: MpIsmoeConfig) -> ParallelParts:
    """Return where a parallel side network holds its experts."""

    if not config.mixture:
        return ParallelParts()
    normed = partial(_normed_experts, config)
    if config.placement == "aggregate":
        return ParallelParts(normed)
    if config.placement == "per_tap":
        return ParallelParts(meeting=normed)
    if config.placement == "per_tap_shared":
        return ParallelParts(meeting=cache(normed))
    return ParallelParts(finish=_experts(config, False))


def _generator() -> torch.Generator:
    """Return a generator seeded by the global one, which the run has seeded."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))
