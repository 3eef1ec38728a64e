"""Who works on a token: router, correlation with the salient token, choice and weights.

Notation of MP-ISMoE: g the router, h0 the salient token, r one vector an expert, c their
correlation (Eq. 7), g' = (softmax(g) + c) / 2 (Eq. 8).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.experts.config import CorrelationNorm, ExpertsConfig

INITIAL_STD = 0.02
EPSILON = 1e-6


@dataclass(frozen=True)
class Choice:
    """The experts of every token.

    Attributes:
        experts: [B, N, k] long, positions of the chosen experts.
        weights: [B, N, k] fp32, what their outputs are multiplied by.
        scores: [B, N, E] fp32, g' of all experts.
    """

    experts: Tensor
    weights: Tensor
    scores: Tensor


class Correlation(nn.Module):
    """c = Norm(h0 r^T), a probability vector over the experts for every row (Eq. 7).

    Args:
        config: which of the readings.
        width: m.
        salient_width: D.
    """

    def __init__(self, config: ExpertsConfig, width: int, salient_width: int) -> None:
        super().__init__()
        self.source = config.correlation
        self.norm = config.correlation_norm
        project = config.correlation_width == "side"
        self.project = nn.Linear(salient_width, width, bias=False) if project else nn.Identity()
        size = width if project else salient_width
        self.keys = nn.Parameter(torch.randn(config.experts, size) * INITIAL_STD)  # r
        self.tau = nn.Parameter(torch.tensor(math.sqrt(size))) if self.norm == "cosine" else None

    def forward(self, salient: Tensor) -> Tensor:
        """Map the salient token [B, D] to c [B, E] fp32; no gradient reaches the token."""
        h0 = salient.detach().float()
        if self.source == "constant":
            h0 = torch.ones_like(h0)
        elif self.source == "shuffled":
            h0 = h0.roll(1, 0)
        h0 = self.project(h0).float()
        if self.tau is not None:
            cosine = F.normalize(h0, dim=-1) @ F.normalize(self.keys, dim=-1).T
            return (self.tau * cosine).float().softmax(-1)
        return normalise((h0 @ self.keys.T).float() / math.sqrt(h0.shape[-1]), self.norm)


def normalise(x: Tensor, norm: CorrelationNorm) -> Tensor:
    """Turn scores [B, E] into probability vectors by one of the readings of Norm."""
    if norm == "dot":
        return x.softmax(-1)
    if norm == "zscore":
        centred = x - x.mean(-1, keepdim=True)
        return (centred / (x.std(-1, correction=0, keepdim=True) + EPSILON)).softmax(-1)
    if norm == "l1":
        x = F.relu(x)
    elif norm == "minmax":
        x = x - x.amin(-1, keepdim=True)
    else:
        x = x.square()
    return (x + EPSILON) / (x + EPSILON).sum(-1, keepdim=True)


class Router(nn.Module):
    """Chooses k of N experts for every token, and weighs them (Eq. 6-8).

    Args:
        config: the readings.
        width: m.
        salient_width: D.
    """

    temperature: Tensor

    def __init__(self, config: ExpertsConfig, width: int, salient_width: int) -> None:
        super().__init__()
        self.top_k = config.top_k
        # A tensor: autograd would keep a new one of a plain number at every step.
        temperature = torch.tensor(config.router_temperature)
        self.register_buffer("temperature", temperature, persistent=False)
        auto = "switch" if config.top_k == 1 else "renorm"
        self.weighting = auto if config.router_weight == "auto" else config.router_weight
        self.logits = nn.Linear(width, config.experts, bias=config.router_bias)
        nn.init.normal_(self.logits.weight, std=INITIAL_STD)
        if config.router_bias:
            nn.init.zeros_(self.logits.bias)
        joined = config.correlation != "off"
        self.correlation = Correlation(config, width, salient_width) if joined else None

    def forward(self, x: Tensor, salient: Tensor) -> Choice:
        """Choose for tokens [B, N, m], given the salient token [B, D]."""
        logits = self.logits(x).float() / self.temperature  # [B, N, E]
        scores = logits.softmax(-1)
        if self.correlation is not None:
            scores = torch.lerp(scores, self.correlation(salient)[:, None].expand_as(scores), 0.5)
        chosen, experts = scores.topk(self.top_k, dim=-1)  # [B, N, k]
        if self.weighting == "switch":
            weights = chosen
        elif self.weighting == "renorm":
            weights = chosen / chosen.sum(-1, keepdim=True)
        elif self.weighting == "resoftmax":
            weights = chosen.softmax(-1)
        else:
            weights = logits.gather(-1, experts).softmax(-1)
        return Choice(experts, weights, scores)
