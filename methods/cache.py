"""What a method remembers of the tokens before the present one, while text is written."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class TokenCache:
    """Tensors by module and name: all that later tokens need of the earlier ones.

    Attributes:
        done: by stream, the side output [B, M, m] and the adapted output [B, M, D] or None, of
            streams that do not grow, such as an encoder's.
        late: the cache of a backbone's late block, which reads side states, by stream.
    """

    def __init__(self) -> None:
        self.done: dict[str, tuple[Tensor, Tensor | None]] = {}
        self.late: dict[str, Any] = {}
        self._kept: dict[tuple[int, str], Tensor] = {}

    def extend(self, owner: nn.Module, name: str, value: Tensor, dim: int) -> Tensor:
        """Append ``value`` to what ``owner`` keeps as ``name`` and return all of it.

        Args:
            owner: the module that asks.
            name: which of its tensors.
            value: [B, ...], of the new tokens.
            dim: the dimension of tokens.
        """
        key = (id(owner), name)
        if key in self._kept:
            value = torch.cat([self._kept[key], value], dim)
        self._kept[key] = value
        return value

    def keep(self, owner: nn.Module, name: str, value: Tensor) -> Tensor:
        """Return what ``owner`` kept first as ``name``: at the first call ``value`` itself."""
        return self._kept.setdefault((id(owner), name), value)

    def late_cache(self, stream: str, make: Callable[[], Any]) -> Any:
        """Return the cache of a stream's late block, made at the first call."""
        if stream not in self.late:
            self.late[stream] = make()
        return self.late[stream]

    def reorder(self, rows: Tensor) -> None:
        """Keep the rows at ``rows`` ([B'] long) of every tensor, as beam search does."""
        self._kept = {key: value[rows] for key, value in self._kept.items()}
        self.done = {
            name: (side[rows], None if output is None else output[rows])
            for name, (side, output) in self.done.items()
        }
        for cache in self.late.values():
            cache.reorder_cache(rows)


def remember(
    cache: TokenCache | None, owner: nn.Module, name: str, value: Tensor, dim: int
) -> Tensor:
    """Return ``value``, behind what the cache holds of earlier tokens where there is one."""
    return value if cache is None else cache.extend(owner, name, value, dim)
