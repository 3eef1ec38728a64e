"""How SHERL sums tiers of hidden states: each by how much it says and how little it repeats."""

from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6


def sum_of_tiers(tiers: Tensor, deep: Tensor, score: nn.Module) -> Tensor:
    """Return sum_i a_i v_i, token by token (SHERL, section 3.2).

    R_i = sum_j ReLU(cos(v_i, v_j)); a = l1norm_i(ReLU(w (v_i q) + b) / R_i).

    Args:
        tiers: v, [B, N, L, m].
        deep: q, [B, N, m].
        score: w and b, from m to 1.

    Returns:
        [B, N, m].
    """
    unit = F.normalize(tiers, dim=-1)
    redundancy = F.relu(unit @ unit.transpose(2, 3)).sum(-1, keepdim=True)  # [B, N, L, 1]
    weights = F.relu(score(tiers * deep[:, :, None])) / redundancy.clamp_min(EPSILON)
    weights = weights / (weights.sum(2, keepdim=True) + EPSILON)
    return (weights * tiers).sum(2)
