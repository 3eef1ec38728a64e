"""From an image to its tokens, without convolutions."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

IMAGE_SIZE = 64
GRID = 4  # image tokens along each side

_WIDTHS = (32, 64, 128)  # channels at 32 x 32, 16 x 16 and 8 x 8 positions


class PatchStem(nn.Module):
    """Turns an image into a 4 x 4 grid of tokens by four strided, overlapping stages.

    A stage is a 3 x 3 convolution of stride 2, written as a gathering of neighbourhoods and a
    linear layer, then a norm and GELU: the same map without a convolution's private workspace, and
    with weights that can be low-bit like all others. It is the embed layer of timm's
    VisionTransformer.

    Args:
        embed_dim: Width D of the tokens.
        **_: What timm passes to its own patch embedding and this stem does not need.
    """

    num_patches = GRID * GRID
    grid_size = (GRID, GRID)

    def __init__(self, embed_dim: int, **_: Any) -> None:
        super().__init__()
        widths = (3, *_WIDTHS, embed_dim)
        self.stages = nn.ModuleList(
            nn.Linear(9 * before, after) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[1:-1])

    def feat_ratio(self) -> int:
        """Returns the pixels per token along each side."""
        return IMAGE_SIZE // GRID

    def forward(self, pixels: Tensor) -> Tensor:
        """Embeds images.

        Args:
            pixels: [B, 3, 64, 64], float.

        Returns:
            Tokens [B, 16, D], row by row.
        """
        *stages, last = self.stages
        grid = pixels.permute(0, 2, 3, 1)  # [B, 64, 64, 3]
        for stage, norm in zip(stages, self.norms, strict=True):
            grid = functional.gelu(norm(stage(neighbourhoods(grid))))  # [B, H / 2, W / 2, C']
        return last(neighbourhoods(grid)).flatten(1, 2)  # [B, 16, D]


def neighbourhoods(grid: Tensor) -> Tensor:
    """Takes every second 3 x 3 neighbourhood, with zeros around the grid.

    The same as `functional.unfold`, whose kernel makes a copy that no tracker sees. Channels come
    last in every row, so that they are copied together.

    Args:
        grid: [B, H, W, C], H and W even.

    Returns:
        [B, H / 2, W / 2, 9 C], the nine row by row.
    """
    return _Neighbourhoods.apply(grid)  # type: ignore[no-any-return, no-untyped-call]


class _Neighbourhoods(torch.autograd.Function):
    """The gathering and its gradient by slices: each slice's own gradient would be a whole grid."""

    @staticmethod
    def forward(_: FunctionCtx, grid: Tensor) -> Tensor:
        padded = functional.pad(grid, (0, 0, 1, 1, 1, 1))
        places = _every_second(grid.shape[1] // 2, grid.shape[2] // 2)
        return torch.cat([padded[:, rows, columns] for rows, columns in places], dim=3)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(_: FunctionCtx, gradient: Tensor) -> Tensor:
        batch, height, width, size = gradient.shape
        padded = gradient.new_zeros(batch, 2 * height + 2, 2 * width + 2, size // 9)
        parts = gradient.chunk(9, dim=3)  # [B, H / 2, W / 2, C] each
        for part, (rows, columns) in zip(parts, _every_second(height, width), strict=True):
            padded[:, rows, columns] += part
        return padded[:, 1:-1, 1:-1]


def _every_second(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yields where the nine neighbours of all windows lie in the padded grid, row by row."""
    for down in range(3):
        for right in range(3):
            yield slice(down, down + 2 * height, 2), slice(right, right + 2 * width, 2)
