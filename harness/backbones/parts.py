"""What several backbones have in common: BERT's blocks by name, masks and inputs."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from harness.backbones.base import AttentionNames, Inputs, StreamState


def bert_sublayers(blocks: Sequence[str]) -> list[str]:
    """Return the attention and feed-forward outputs of the library's BERT blocks, in order."""
    parts = ("attention.output.dense", "output.dense")
    return [f"{block}.{part}" for block in blocks for part in parts]


def bert_attentions(blocks: Sequence[str]) -> list[AttentionNames]:
    """Return the projections of the attentions of the library's BERT blocks, in order."""
    parts = ("self.query", "self.key", "self.value", "output.dense")
    return [AttentionNames(*(f"{block}.attention.{part}" for part in parts)) for block in blocks]


def linear_layers(model: nn.Module) -> list[str]:
    """Return the names of a model's linear layers, in order."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def layer_norms(model: nn.Module, stream: str) -> list[str]:
    """Return the names of the layer norms below the module of a stream, in order."""
    return [
        f"{stream}.{name}"
        for name, module in model.get_submodule(stream).named_modules()
        if isinstance(module, nn.LayerNorm)
    ]


def joint_mask(text: StreamState, image: StreamState) -> Tensor:
    """Join the masks [B, T] of a text's content and [B, I] of an image without one: [B, T + I]."""
    assert text.mask is not None
    real = torch.ones(image.output.shape[:2], dtype=torch.bool, device=image.output.device)
    return torch.cat(
        [text.mask[:, text.content], real if image.mask is None else image.mask], dim=1
    )


def image_inputs(images: np.ndarray) -> Inputs:
    """Return uint8 images [n, H, W, 3] as ``pixels`` [n, 3, H, W]."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return {"pixels": pixels.contiguous()}
