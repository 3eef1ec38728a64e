"""Biases of a backbone's blocks: found, and added where there are none."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone
from methods.quantization.modules import QuantizedLinear


class NormBias(nn.Module):
    """A bias behind a norm that has none of its own.

    Args:
        width: D.
    """

    memory_region = "side"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D] to [..., D]."""
        return x + self.bias


def _shift(bias: NormBias, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    return bias(output)


def add_biases(backbone: Backbone, streams: tuple[str, ...]) -> nn.ModuleList:
    """Give a bias of 0 to what has none: the blocks' linear layers and norms, and the output layer.

    Args:
        backbone: the model, changed in place.
        streams: names of the streams whose blocks count.

    Returns:
        The biases of norms, which act through hooks; those of linear layers are their own.
    """
    shifts = nn.ModuleList()
    for stream in streams:
        inner = set(backbone.norms(stream))
        for block in backbone.blocks(stream):
            for name, module in backbone.get_submodule(block).named_modules(prefix=block):
                if isinstance(module, nn.Linear | QuantizedLinear):
                    _give_bias(module)
                elif name in inner and getattr(module, "bias", None) is None:
                    shift = NormBias(backbone.spec(stream).width)
                    module.register_forward_hook(partial(_shift, shift))
                    shifts.append(shift)
    if backbone.output_layer is not None:
        _give_bias(backbone.get_submodule(backbone.output_layer))
    return shifts


def _give_bias(layer: nn.Module) -> None:
    assert isinstance(layer, nn.Linear | QuantizedLinear)
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros(layer.out_features))


def biases_of(backbone: Backbone, streams: tuple[str, ...]) -> Iterator[nn.Parameter]:
    """Yield every parameter of the streams' blocks, and of the output layer, that adds something.

    A parameter counts whose name contains ``bias``: a T5's tables of relative positions are among
    them, as in the published counts of LoRA.
    """
    prefixes = [b for stream in streams for b in backbone.blocks(stream)]
    if backbone.output_layer is not None:
        prefixes.append(backbone.output_layer)
    for name, parameter in backbone.named_parameters():
        if "bias" in name and any(name.startswith(f"{prefix}.") for prefix in prefixes):
            yield parameter
