"""SHERL: hidden states are summed by how little they repeat, then cross the last block."""

from collections.abc import Sequence

from torch import nn

from harness.backbones.base import Backbone
from harness.registry import Config
from methods.base import SideMethod, States
from methods.cache import TokenCache
from methods.sherl import SherlConfig
from methods.sherl.network import SherlNetwork
from methods.side.network import adapted_states


class Sherl(SideMethod):
    """SHERL.

    Args:
        config: a ``SherlConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, SherlConfig)
        self.network = SherlNetwork(config, backbone, self.reads)

    def side(self, states: States, cache: TokenCache | None = None) -> States:
        """Return the adapted states of the streams that the head reads."""
        return adapted_states(self.network(states, self.backbone, cache), states, self.backbone)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the early routes and the new norms."""
        network = self.network
        return {
            "side": list(network.routes.parameters()),
            "norms": list(network.norms.parameters()),
        }
