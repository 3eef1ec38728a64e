"""SHERL: hidden states are summed by how little they repeat, then cross the last block."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone, StreamSpec, StreamState
from harness.registry import Config
from methods.base import SideMethod, States
from methods.cache import TokenCache
from methods.sherl import SherlConfig
from methods.sherl.embedding import TieredStream
from methods.sherl.network import RouteForm, SherlNetwork
from methods.side.embedding import EmbeddingNetwork
from methods.side.layers import kept_layers, side_width
from methods.side.network import Network, adapted_states
from methods.side.projections import MlpProjection


class Sherl(SideMethod):
    """SHERL.

    Args:
        config: a ``SherlConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.
    """

    config: SherlConfig

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, SherlConfig)
        self.config = config
        self.network = self._build_network(config)

    def _build_network(self, config: SherlConfig) -> Network:
        if config.output == "embedding":
            return EmbeddingNetwork(self.backbone, self.reads, self._tiered)
        form = RouteForm(config.down, MlpProjection if config.sum_mlp else None, config.output_norm)
        return SherlNetwork(config, self.backbone, self.reads, form)

    def _tiered(self, spec: StreamSpec) -> TieredStream:
        config = self.config
        width = side_width(spec, config.reduction, config.width)
        kept = kept_layers(spec, config.layers)
        return TieredStream(spec, width, kept, config.gate_temperature, config.salient_gate)

    @property
    def embedded(self) -> tuple[str, ...]:
        """The streams whose states are at the embedding's width."""
        return () if self.config.output == "state" else self.reads

    def side(self, states: States, cache: TokenCache | None = None) -> States:
        """Return the adapted states of the streams that the head reads."""
        outputs = self.network(states, self.backbone, cache)
        if self.config.map_pooling == "max_avg":
            outputs = {n: self._pooled(n, y, states[n]) for n, y in outputs.items()}
        return adapted_states(outputs, states, self.backbone, self.network.embeds)

    def _pooled(self, stream: str, output: Tensor, state: StreamState) -> Tensor:
        """Return a map's tokens [B, H W / 4, D] of its tokens [B, H W, D]; others as they are."""
        if not self.backbone.spec(stream).convolutional:
            return output
        grid = state.taps[-1].grid
        assert grid is not None
        maps = output.transpose(1, 2).unflatten(2, grid)  # [B, D, H, W]
        pooled = F.max_pool2d(maps, 2) + F.avg_pool2d(maps, 2)  # [B, D, H / 2, W / 2]
        return pooled.flatten(2).transpose(1, 2)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the early routes and the new norms."""
        return self.network.parts()
