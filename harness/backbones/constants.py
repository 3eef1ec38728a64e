"""Plain numbers in a model's forward pass, made visible to whatever accounts for memory."""

import torch
from torch import nn


def keep_constants_as_buffers(backbone: nn.Module) -> None:
    """Turn the factors of attention scores into buffers.

    For a plain number autograd makes and keeps a tensor of its own in every block, which nothing
    that accounts for memory can see.
    """
    for module in backbone.modules():
        for name in ("scale", "scaling"):
            value = getattr(module, name, None)
            if isinstance(value, float):
                delattr(module, name)
                module.register_buffer(name, torch.tensor(value), persistent=False)
