"""Gradient checkpointing: a backbone's blocks keep their inputs and are run again in the backward.

Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from harness.backbones.base import Backbone


def recompute_blocks(backbone: Backbone) -> None:
    """Make every block of every stream forget its activations, in place.

    Names, parameters and results stay the same; copies of the backbone behave alike.
    """
    for spec in backbone.specs:
        for name in backbone.blocks(spec.name):
            block = backbone.get_submodule(name)
            block.__class__ = _recomputed(type(block))


class _Recompute(nn.Module):
    """Goes before a block's class: its forward pass is run again for the backward pass."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        run = super().forward
        if not torch.is_grad_enabled():
            return run(*args, **kwargs)
        return checkpoint(run, *args, use_reentrant=False, **kwargs)


def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_Recompute, kind), {})
