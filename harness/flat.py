"""Nested configurations as one level of dotted names."""

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``("train.lr", 0.001)`` for ``{"train": {"lr": 0.001}}``, in the mapping's order.

    Args:
        values: a JSON-ready mapping; lists count as values.
        prefix: put before every name.
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
