"""How side-tuning merges the outputs of the base and of the side network, once, at the end."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Sum(nn.Module):
    """base + side: near the base at first, as the upsampler's weights are small."""

    def forward(self, base: Tensor, side: Tensor) -> Tensor:
        """Merge two tensors of one shape."""
        return base + side


class Product(nn.Module):
    """base (1 + side): near the base at first.

    The source multiplies by the side alone, whose network it distils from the base; ours starts
    near 0, and the base would vanish with it.
    """

    def forward(self, base: Tensor, side: Tensor) -> Tensor:
        """Merge two tensors of one shape."""
        return base * (1 + side)


class Film(nn.Module):
    """(1 + G h) base + (side + S h) with h = relu(W side); G and S are 0 at first.

    So it starts as the sum. The source multiplies by side + G h; see ``Product`` for why not here.

    Args:
        width: D, of the outputs and of the hidden layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.factor = zero_linear(width)
        self.shift = zero_linear(width)

    def forward(self, base: Tensor, side: Tensor) -> Tensor:
        """Merge [B, N, D] and [B, N, D]."""
        hidden = F.relu(self.hidden(side))
        return (1 + self.factor(hidden)) * base + side + self.shift(hidden)


class Mlp(nn.Module):
    """base + V relu(U base) + side; V is 0 at first, so that it starts as the sum.

    The source has no first term, and a batch norm before the ReLU, which tokens have not.

    Args:
        width: D, of the outputs and of the hidden layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.output = zero_linear(width)

    def forward(self, base: Tensor, side: Tensor) -> Tensor:
        """Merge [B, N, D] and [B, N, D]."""
        return base + self.output(F.relu(self.hidden(base))) + side


def zero_linear(width: int) -> nn.Linear:
    """Return a linear layer from D to D whose weight and bias are 0."""
    layer = nn.Linear(width, width)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    return layer
