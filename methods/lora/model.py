"""LoRA: W x + (alpha / r) B A x on attention projections."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import AttentionNames, Backbone
from harness.registry import Config
from methods.base import InPlaceMethod
from methods.bitfit.biases import add_biases, biases_of
from methods.lora import LoraConfig
from methods.quantization.modules import QuantizedLinear


class LowRankUpdate(nn.Module):
    """(alpha / r) B A dropout(x), zero at first (Hu et al., section 4.1).

    Args:
        inputs: size of x.
        outputs: size of the update.
        config: rank, alpha, dropout and whether A trains.
    """

    memory_region = "side"

    scale: Tensor

    def __init__(self, inputs: int, outputs: int, config: LoraConfig) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(config.rank, inputs))  # A [r, I]
        self.up = nn.Parameter(torch.zeros(outputs, config.rank))  # B [O, r]
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.down.requires_grad_(config.train_down)
        self.dropout = nn.Dropout(config.dropout)
        # A tensor: autograd would keep a new one of a plain number at every step.
        scale = torch.tensor(config.alpha / config.rank)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., I] to [..., O]."""
        return F.linear(F.linear(self.dropout(x), self.down), self.up) * self.scale


def _update(
    update: LowRankUpdate, rows: slice, _module: nn.Module, args: tuple[Any, ...], output: Tensor
) -> Tensor:
    """Add the update to the output dimensions ``rows`` of a linear layer."""
    change = update(args[0])
    before, behind = rows.start, output.shape[-1] - rows.stop
    return output + (F.pad(change, (before, behind)) if before or behind else change)


class Lora(InPlaceMethod):
    """Low-rank updates of all needed streams' attentions, never merged.

    Args:
        config: a ``LoraConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, LoraConfig)
        backbone.requires_grad_(False)
        streams = tuple(spec.name for spec in self.specs)
        self.updates = nn.ModuleList()
        for stream in streams:
            for site in backbone.attentions(stream):
                for target in config.targets:
                    self._attach(site, target, config)
        self.require_sites(self.updates, "attentions")
        self.added = add_biases(backbone, streams) if config.biases else nn.ModuleList()
        self.biases = list(biases_of(backbone, streams)) if config.biases else []
        self.biases.extend(self.added.parameters())
        for parameter in self.biases:
            parameter.requires_grad_()

    def _attach(self, site: AttentionNames, target: str, config: LoraConfig) -> None:
        layer = self.backbone.get_submodule(getattr(site, target))
        assert isinstance(layer, nn.Linear | QuantizedLinear)
        rows = _rows(site, target, layer.out_features)
        update = LowRankUpdate(layer.in_features, rows.stop - rows.start, config)
        layer.register_forward_hook(partial(_update, update, rows))
        self.updates.append(update)

    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return what trains of the updates, and the biases where they train."""
        updates = [p for p in self.updates.parameters() if p.requires_grad]
        return {"updates": updates, "biases": self.biases}

    def extra_state(self) -> dict[str, Tensor]:
        """Return the matrices A that do not train: they start at random."""
        frozen = self.updates.named_parameters()
        return {name: p.detach() for name, p in frozen if not p.requires_grad}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the matrices A that do not train."""
        with torch.no_grad():
            for name, value in state.items():
                self.updates.get_parameter(name).copy_(value)


def _rows(site: AttentionNames, target: str, outputs: int) -> slice:
    """Return the output dimensions of a projection, a third of a fused layer."""
    if target == "output" or site.query != site.key:
        return slice(0, outputs)
    third = outputs // 3
    start = ("query", "key", "value").index(target) * third
    return slice(start, start + third)
