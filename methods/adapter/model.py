"""Houlsby adapters: bottlenecks on the output of sub-layers, before the residual sum."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone
from harness.errors import UserError
from harness.registry import Config
from methods.adapter import AdapterConfig
from methods.base import InPlaceMethod

INITIAL_STD = 0.01


class Adapter(nn.Module):
    """y = x + up(gelu(down(x))); near the identity at first (Houlsby et al., section 2.1).

    Args:
        width: D.
        bottleneck: size of the hidden layer.
    """

    memory_region = "side"

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        for layer in (self.down, self.up):
            nn.init.normal_(layer.weight, std=INITIAL_STD)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, N, D] to [B, N, D]."""
        return x + self.up(F.gelu(self.down(x), approximate="tanh"))


def _adapt(adapter: Adapter, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    return adapter(output)


class Adapters(InPlaceMethod):
    """Adapters behind every sub-layer of every needed stream, and the backbone's norms.

    Args:
        config: an ``AdapterConfig``.
        backbone: the model; all but its norms is frozen.
        reads: the streams that the head reads.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, AdapterConfig)
        backbone.requires_grad_(False)
        self.adapters = nn.ModuleList()
        for spec in self.specs:
            if spec.width < config.reduction:
                raise UserError(
                    f"reduction={config.reduction} leaves no bottleneck: stream '{spec.name}' has "
                    f"width {spec.width}; choose at most that."
                )
            for site in backbone.sublayers(spec.name):
                adapter = Adapter(spec.width, spec.width // config.reduction)
                backbone.get_submodule(site).register_forward_hook(partial(_adapt, adapter))
                self.adapters.append(adapter)
        self.require_sites(self.adapters, "sub-layers")
        self.norms = [
            parameter
            for spec in self.specs
            for name in (backbone.norms(spec.name) if config.train_norms else ())
            for parameter in backbone.get_submodule(name).parameters()
        ]
        for parameter in self.norms:
            parameter.requires_grad_()

    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the adapters as ``side``, and the trained norms."""
        return {"side": list(self.adapters.parameters()), "norms": self.norms}
