"""Losses of matching pairs within a batch."""

import torch
from torch import Tensor
from torch.nn import functional as F


def infonce(pairs: Tensor, first: Tensor) -> Tensor:
    """Return the mean cross-entropy of finding each partner in the batch, both ways.

    Source: Radford et al., Learning Transferable Visual Models, ICML 2021, section 2.3.

    Args:
        pairs: [B, 2, E], the first already scaled.
        first: [B] long, which first (image) a row has; another row's copy of it is no negative.
    """
    scores = _scores(pairs, first, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.t(), target)) / 2


def hinge(pairs: Tensor, first: Tensor, margin: float) -> Tensor:
    """Return the mean violation of the margin by the hardest negative, both ways.

    Source: Faghri et al., VSE++, BMVC 2018, eq. 6.

    Args:
        pairs: [B, 2, E] of length 1.
        first: [B] long, as in ``infonce``.
        margin: by which a pair must be closer than any other.
    """
    scores = _scores(pairs, first, -1.0)
    own = scores.diagonal()
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool, device=scores.device), -1)
    violations = [(margin + others.amax(dim) - own).clamp(min=0) for dim in (0, 1)]
    return (violations[0] + violations[1]).mean()


def _scores(pairs: Tensor, first: Tensor, excluded: float) -> Tensor:
    """Return the scores [B, B] of all firsts with all seconds."""
    scores = pairs[:, 0] @ pairs[:, 1].t()
    copies = first[:, None] == first
    copies.fill_diagonal_(False)
    return scores.masked_fill(copies, excluded)
