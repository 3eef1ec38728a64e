"""ISMoE: k of N feed-forward experts for every token, chosen with the salient token's help."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.experts.config import ExpertsConfig
from methods.experts.grouped import grouped_linear
from methods.experts.routing import Choice, Router


class ISMoE(nn.Module):
    """x_out = sum_i G_i E_i(x), E_i(x) = W2_i ReLU(W1_i x) (MP-ISMoE, Eq. 6-8).

    Args:
        config: the mixture's settings.
        width: m.
        salient_width: D.
        replicate: whether experts start as jittered copies of one network (``expert_init=auto``).

    Attributes:
        load: [E] fp32, how often each expert was chosen for a real token while training.
        entropy: [] fp32, sum over those tokens of the entropy of g' in nats.
        last_load: [E] fp32, ``load`` as it was when statistics were last taken.
    """

    load: Tensor
    last_load: Tensor
    entropy: Tensor

    def __init__(
        self, config: ExpertsConfig, width: int, salient_width: int, replicate: bool
    ) -> None:
        super().__init__()
        self.config = config
        hidden = expert_hidden(config, width, salient_width)
        if config.expert_init != "auto":
            replicate = config.expert_init == "replicate"
        self.up = nn.Parameter(self._draw(width, hidden, replicate))  # [E, m, H]
        self.down = nn.Parameter(self._draw(hidden, width, replicate))  # [E, H, m]
        self.router = Router(config, width, salient_width)
        self.register_buffer("load", torch.zeros(config.experts), persistent=False)
        self.register_buffer("entropy", torch.zeros(()), persistent=False)
        self.register_buffer("last_load", torch.zeros(config.experts), persistent=False)
        self._balance: Tensor | None = None

    def _draw(self, inputs: int, outputs: int, replicate: bool) -> Tensor:
        """Return initial weights [E, I, O], uniform as in nn.Linear."""
        bound = inputs**-0.5
        experts = self.config.experts
        if not replicate:
            return torch.empty(experts, inputs, outputs).uniform_(-bound, bound)
        shared = torch.empty(inputs, outputs).uniform_(-bound, bound)
        std = bound / 3**0.5
        return shared + torch.randn(experts, inputs, outputs) * self.config.jitter * std

    def forward(self, x: Tensor, salient: Tensor, mask: Tensor | None) -> Tensor:
        """Map tokens to tokens.

        Args:
            x: [B, N, m].
            salient: [B, D].
            mask: [B, N] bool, True where a token is real; others are not counted.

        Returns:
            [B, N, m] in the dtype of ``x``.
        """
        choice = self.router(x, salient)
        if self.training:
            self._observe(choice, mask)
        tokens = x.flatten(0, 1)  # [T, m]
        experts, weights = choice.experts.flatten(0, 1), choice.weights.flatten(0, 1)  # [T, k]
        run = self._sparse if self.config.dispatch == "sparse" else self._dense
        return run(tokens, experts, weights).to(x.dtype).view_as(x)

    def _sparse(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Run each expert on its own tokens: only their activations are stored."""
        order = experts.flatten().argsort(stable=True)  # [T k], rows of expert 0 first
        ones = torch.ones_like(experts, dtype=torch.int32)
        offsets = _counts(experts, ones, self.config.experts).cumsum(0, dtype=torch.int32)  # [E]
        rows = x.index_select(0, order // experts.shape[1])  # [T k, m]
        hidden = F.relu(grouped_linear(rows, self.up, offsets))  # [T k, H]
        outputs = grouped_linear(hidden, self.down, offsets)  # [T k, m]
        outputs = outputs.index_select(0, order.argsort()).view(*experts.shape, -1)  # [T, k, m]
        return (outputs * weights[..., None].to(outputs.dtype)).sum(1)

    def _dense(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Run every expert on every token, then weigh most of them by zero."""
        zeros = weights.new_zeros(len(x), self.config.experts)
        gates = zeros.scatter(1, experts, weights)  # [T, E]
        outputs = F.relu(x @ self.up) @ self.down  # [E, T, m]
        return (outputs * gates.T[..., None].to(outputs.dtype)).sum(0)

    def _observe(self, choice: Choice, mask: Tensor | None) -> None:
        """Count choices, and keep the load-balancing term (Switch Transformers, Eq. 4)."""
        scores = choice.scores
        real = torch.ones_like(scores[..., 0]) if mask is None else mask.to(scores.dtype)  # [B, N]
        times = real[..., None].expand_as(choice.experts)  # [B, N, k]
        counts = _counts(choice.experts, times, self.config.experts)
        with torch.no_grad():
            self.load += counts
            self.entropy += (torch.special.entr(scores).sum(-1) * real).sum()
        if self.config.load_balance:
            shares = counts / counts.sum()
            means = (scores * real[..., None]).sum((0, 1)) / real.sum()  # [E]
            self._balance = self.config.load_balance * len(shares) * (shares * means).sum()

    def take_balance(self) -> Tensor | None:
        """Return and forget the load-balancing term of the last forward pass."""
        balance, self._balance = self._balance, None
        return balance


def _counts(experts: Tensor, times: Tensor, n: int) -> Tensor:
    """Return how often each of ``n`` experts was chosen, [n]; unlike bincount, without reading.

    Args:
        experts: [...] long.
        times: [...], what a choice counts.
        n: the number of experts.
    """
    return times.new_zeros(n).scatter_add(0, experts.flatten(), times.flatten())


def expert_hidden(config: ExpertsConfig, width: int, salient_width: int) -> int:
    """Return the hidden size of an expert."""
    sizes = {"4m": 4 * width, "m": width, "d": salient_width}
    hidden = config.expert_hidden
    return hidden if isinstance(hidden, int) else sizes[hidden]


def mixtures(module: nn.Module) -> list[ISMoE]:
    """Return all mixtures inside ``module``, in order."""
    return [m for m in module.modules() if isinstance(m, ISMoE)]


def balance_loss(found: Iterable[ISMoE]) -> Tensor | None:
    """Return the sum of the load-balancing terms of the last forward pass, or None."""
    terms = [t for t in (m.take_balance() for m in found) if t is not None]
    return torch.stack(terms).sum() if terms else None


def take_statistics(found: Iterable[ISMoE]) -> dict[str, Any]:
    """Return what was counted since the last call, and start again.

    Returns:
        ``expert_load``: the share of each expert, one list a mixture; ``router_entropy``: mean
        entropy of g' in nats; nothing where nothing was counted.
    """
    counted = [m for m in found if m.load.sum() > 0]
    if not counted:
        return {}
    load = [(m.load / m.load.sum()).tolist() for m in counted]
    tokens = [m.load.sum() / m.config.top_k for m in counted]
    entropy = sum(float(m.entropy / n) for m, n in zip(counted, tokens, strict=True))
    for mixture in counted:
        mixture.last_load.copy_(mixture.load)
        mixture.load.zero_()
        mixture.entropy.zero_()
    return {"expert_load": load, "router_entropy": entropy / len(counted)}


def dead_experts(found: Iterable[ISMoE]) -> int:
    """Return how many experts nothing chose, in what was counted last."""
    loads = (m.load if m.load.sum() > 0 else m.last_load for m in found)
    return sum(int((load == 0).sum()) for load in loads if load.sum() > 0)
