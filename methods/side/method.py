"""A method that is a side network and nothing else: what LST, UniPT and MP-ISMoE share."""

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone
from harness.registry import Config
from methods.base import SideMethod, States
from methods.cache import TokenCache
from methods.side.config import SideConfig
from methods.side.network import Ending, Network, adapted_states

GATE_TEMPERATURE = 0.1


class Gate(nn.Module):
    """A learned scalar mixture: g a + (1 - g) b with g = sigmoid(alpha / T), alpha from 0.

    Args:
        temperature: T.
    """

    temperature: Tensor

    def __init__(self, temperature: float) -> None:
        super().__init__()
        # A tensor: autograd would keep a new one of a plain number at every step.
        self.register_buffer("temperature", torch.tensor(temperature), persistent=False)
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Mix two tensors of one shape."""
        gate = torch.sigmoid(self.alpha / self.temperature)
        return gate * a + (1 - gate) * b


class ScaledSum(nn.Module):
    """a + gate b with a learned scalar gate, 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Join two tensors of one shape."""
        return a + self.gate * b


class NetworkMethod(SideMethod):
    """A side network, a trained copy of the stream's final norm, and the frozen output on request.

    Args:
        config: a ``SideConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, SideConfig)
        self.network = self.build_network(config)
        adapted = [name for name in self.reads if name in self.network.adapts]
        merged = adapted if config.join != "none" else ()
        self.merges = nn.ModuleDict(
            {n: Gate(GATE_TEMPERATURE) if config.join == "gate" else ScaledSum() for n in merged}
        )

    @abstractmethod
    def build_network(self, config: SideConfig) -> Network:
        """Return the side network for ``self.specs`` and ``self.reads``."""

    def ending(self, config: SideConfig) -> Ending:
        """Return what follows the side outputs: an upsampler, then a copy of the final norm."""
        copies = config.train_norms == "side_copy"
        return Ending(norm=self._copy_norm if copies else None)

    def _copy_norm(self, stream: str) -> nn.Module:
        if self.backbone.spec(stream).convolutional:  # its norms are of maps, not of tokens
            return nn.Identity()
        final = self.backbone.get_submodule(self.backbone.norms(stream)[-1])
        own = {id(p): nn.Parameter(p.detach().clone()) for p in final.parameters()}
        return deepcopy(final, {**own})  # fake tensors can be cloned, and not be copied

    def side(self, states: States, cache: TokenCache | None = None) -> States:
        """Return the adapted states of the streams that the head reads, or their frozen ones."""
        outputs = self.network(states, self.backbone, cache)
        for name, merge in self.merges.items():
            outputs[name] = merge(outputs[name], states[name].output)
        frozen = {n: states[n].frozen() for n in self.reads if n not in outputs}
        return {**frozen, **adapted_states(outputs, states, self.backbone, self.network.embeds)}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the side network and the copied norms."""
        parts = self.network.parts()
        return {**parts, "side": [*parts["side"], *self.merges.parameters()]}
