"""What follows an aggregation of taps, and the norms of tokens that come from maps."""

from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import StreamSpec


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm of tokens, each a sample of its own: that of maps, where tokens are places."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, N, C] to [B, N, C]."""
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def token_norm(spec: StreamSpec, width: int) -> nn.Module:
    """Return the norm of a side network's tokens: by batch where they are places of maps."""
    return TokenBatchNorm(width) if spec.convolutional else nn.LayerNorm(width)


class LinearProjection(nn.Module):
    """A linear layer, then a norm: P of UniPT's text and retrieval hosts.

    Args:
        spec: the stream.
        width: m.
    """

    def __init__(self, spec: StreamSpec, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = token_norm(spec, width)

    def forward(self, x: Tensor, salient: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Map [B, N, m] to [B, N, m], each token by itself."""
        return self.norm(self.linear(x))


class MlpProjection(nn.Module):
    """An m-D-m network, then a norm: P of UniPT on CLIP-ViL and MDETR, the MLP of SHERL on MDETR.

    Args:
        spec: the stream.
        width: m.
    """

    def __init__(self, spec: StreamSpec, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, spec.width)
        self.down = nn.Linear(spec.width, width)
        self.norm = token_norm(spec, width)

    def forward(self, x: Tensor, salient: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Map [B, N, m] to [B, N, m], each token by itself."""
        return self.norm(self.down(F.relu(self.up(x))))
