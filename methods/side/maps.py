"""Maps pooled to the grid of the last one, guided by it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UserError

EPSILON = 1e-6


class GuidedPool(nn.Module):
    """Weighted sums over windows, the weights by likeness to the last map (UniPT, for CNNs).

    g = ReLU(Conv1x1(anchor)), one vector a window; score = sum_c g_c x_c at every place of the
    window; weights = l1norm(ReLU(score)) + 1 / (rows x columns of a window).

    Windows stand as dimensions of their own, so that no map of g at full resolution is made.

    Args:
        anchor_width: D, of the last map's tokens.
        width: C, of the pooled maps.
    """

    def __init__(self, anchor_width: int, width: int) -> None:
        super().__init__()
        self.guide = nn.Linear(anchor_width, width)

    def forward(self, maps: Tensor, anchor: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return tokens [B, N, C].

        Args:
            maps: [B, C, H, W].
            anchor: [B, N, D], the last map's tokens.
            grid: h and w of the last map, N = h w.

        Raises:
            UserError: windows of whole places do not fill the maps.
        """
        (height, width), (rows, columns) = maps.shape[2:], grid
        if height % rows or width % columns:
            raise UserError(
                f"method.map_pooling=guided: maps of {height} x {width} places do not divide into "
                f"{rows} x {columns} windows. Choose an image size that is a multiple of the last "
                f"stride, or method.map_pooling=mean."
            )
        windows = maps.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))  # [B, C, h, a, w, b]
        guide = F.relu(self.guide(anchor)).transpose(1, 2).unflatten(2, grid)  # [B, C, h, w]
        scores = F.relu((guide[:, :, :, None, :, None] * windows).sum(1))  # [B, h, a, w, b]
        share = torch.tensor(rows * columns / (height * width), device=maps.device)
        weights = scores / (scores.sum((2, 4), keepdim=True) + EPSILON) + share
        pooled = (weights[:, None] * windows).sum((3, 5))  # [B, C, h, w]
        return pooled.flatten(2).transpose(1, 2)
