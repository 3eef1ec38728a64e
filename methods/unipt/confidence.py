"""How UniPT lets tokens meet and how it weighs the meetings."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6


class Confidence(nn.Module):
    """c = softmax_l(w . (mean(Z_a) * mean(Z_l)) + b), one scalar a tap and sample.

    In a causal stream the token itself stands for the mean, which would see the future.

    Args:
        width: m.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, anchor: Tensor, targets: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return one weight [B, 1 or N, 1] a target.

        Args:
            anchor: [B, 1 or N, m].
            targets: each [B, 1 or N, m].
        """
        scores = [self.score(anchor * z) for z in targets]  # each [B, 1 or N, 1]
        return torch.stack(scores).softmax(0).unbind(0)


def interact(anchor: Tensor, target: Tensor, visible: Tensor | None) -> Tensor:
    """Return l1norm(ReLU(anchor target^T)) target, parameter-free attention without a softmax.

    The rows are normalised after the product, so that one [N, M] matrix is stored and not two.

    Args:
        anchor: [B, N, m].
        target: [B, M, m].
        visible: broadcasts to [B, N, M]; False where a target token must not be met.
    """
    scores = anchor @ target.transpose(1, 2)  # [B, N, M]
    if visible is not None:
        scores = scores.masked_fill(~visible, 0)
    scores = F.relu(scores)
    return (scores @ target) / (scores.sum(-1, keepdim=True) + EPSILON)
