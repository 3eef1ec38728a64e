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


def joint_mask(*states: StreamState) -> Tensor:
    """Join the masks of streams whose tokens are concatenated in this order: [B, N1 + N2 ...].

    A stream without a mask has real tokens alone; of all, only the content counts.
    """
    return torch.cat([_content_mask(state) for state in states], dim=1)


def _content_mask(state: StreamState) -> Tensor:
    if state.mask is not None:
        return state.mask[:, state.content]
    shape = state.output[:, state.content].shape[:2]
    return torch.ones(shape, dtype=torch.bool, device=state.output.device)


def image_inputs(images: np.ndarray) -> Inputs:
    """Return uint8 images [n, H, W, 3] as ``pixels`` [n, 3, H, W]."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return {"pixels": pixels.contiguous()}


def attention_bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return what is added to attention scores: 0 where a token is real, else the lowest number.

    Args:
        mask: [B, N] bool; None where all tokens are real.
        dtype: of the result.

    Returns:
        [B, 1, 1, N], or None without a mask.
    """
    if mask is None:
        return None
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(~mask, torch.finfo(dtype).min)[:, None, None]


def prepend(
    prompt: Tensor | None, hidden: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor | None, slice]:
    """Put a prompt before the tokens of a stream.

    Args:
        prompt: [P, D], or None.
        hidden: [B, N, D].
        mask: [B, N] bool; None where all tokens are real.

    Returns:
        Tokens [B, P + N, D], their mask, and the slice of the content among them.
    """
    if prompt is None:
        return hidden, mask, slice(None)
    rows = hidden.shape[0]
    hidden = torch.cat([prompt.to(hidden.dtype).expand(rows, -1, -1), hidden], dim=1)
    if mask is not None:
        mask = torch.cat([mask.new_ones(rows, len(prompt)), mask], dim=1)
    return hidden, mask, slice(len(prompt), None)
