"""What backbones that see have in common: pixels, batch statistics, models of timm."""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from harness.errors import UserError


class PixelScale(nn.Module):
    """Images resized to one size, then standardised by channel.

    Args:
        size: height and width.
        mean: of each channel, for pixels in [0, 1].
        std: of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels [B, 3, H, W] in [0, 255] to [B, 3, height, width]."""
        resized = F.interpolate(pixels.float(), self.size, mode="bilinear", antialias=True)
        return (resized / 255 - self.mean) / self.std


class FixedStatistics(nn.Module):
    """A module whose batch norms keep their pretrained statistics, also while it is trained."""

    def train(self, mode: bool = True) -> "FixedStatistics":
        """Set the mode of everything but batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


def batch_norms(model: nn.Module, stream: str) -> list[str]:
    """Return the names of the batch norms below the module of a stream, in order."""
    return [
        f"{stream}.{name}"
        for name, module in model.get_submodule(stream).named_modules()
        if isinstance(module, _BatchNorm)
    ]


def convolutions(model: nn.Module) -> list[str]:
    """Return the names of a model's convolutions whose weight may be low-bit, in order."""
    return [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Conv2d
        and isinstance(module.padding, tuple)
        and module.padding_mode == "zeros"
    ]


def pixel_statistics(model: Any) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean and the deviation of each channel that a model of timm was trained with."""
    return model.pretrained_cfg["mean"], model.pretrained_cfg["std"]


def timm_model(name: str, default: str, **options: Any) -> Any:
    """Return a model of timm without its classifier and its pooling.

    Args:
        name: of the model.
        default: a name to show where timm has nothing like it.
        options: of ``timm.create_model``.

    Raises:
        UserError: timm has no such model.
    """
    if not timm.is_model(name):
        similar = ", ".join(timm.list_models(f"*{name[:8]}*")[:3]) or default
        raise UserError(f"'{name}': timm has no such model; it has {similar} ...")
    return timm.create_model(name, num_classes=0, global_pool="", **options)


def grid_model(name: str, default: str) -> Any:
    """Return a convolutional model of timm without what follows its last grid.

    Args:
        name: of the model.
        default: a name to show where timm has nothing like it.

    Raises:
        UserError: timm has no such model.
    """
    model = timm_model(name, default)
    for part in ("head", "classifier", "fc"):
        if hasattr(model, part):
            setattr(model, part, nn.Identity())
    return model
