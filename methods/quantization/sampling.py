"""Which output channels a re-quantisation round touches, and seeds that depend on names alone."""

import hashlib
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from methods.quantization.config import QuantizationConfig


def keyed_generator(*key: object) -> torch.Generator:
    """Return a CPU generator whose seed is a function of ``key`` alone."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def sample_channels(
    channels: Mapping[str, int], config: QuantizationConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw p percent of the sample units, at least one.

    Args:
        channels: number of output channels of every weight, by name.
        config: ``sample_percent``, ``sample_unit`` and ``granularity``.
        generator: CPU generator.

    Returns:
        Sorted channel indices of every weight that is touched, [n] long.
    """
    if config.sample_unit == "codes":  # of which a round draws some in every channel
        return {name: torch.arange(count) for name, count in channels.items()}
    if config.sample_unit == "groups" and config.granularity != "per_tensor":
        total = sum(channels.values())
        drawn = torch.zeros(total, dtype=torch.bool)
        drawn[_draw(total, config.sample_percent, generator)] = True
        parts = drawn.split(list(channels.values()))
        rows = {name: part.nonzero()[:, 0] for name, part in zip(channels, parts, strict=True)}
        return {name: indices for name, indices in rows.items() if len(indices)}
    by_layer = config.sample_unit == "layers"
    unit_of = {name: layer_of(name) if by_layer else name for name in channels}
    units = list(dict.fromkeys(unit_of.values()))
    chosen = {units[i] for i in _draw(len(units), config.sample_percent, generator).tolist()}
    return {name: torch.arange(channels[name]) for name in channels if unit_of[name] in chosen}


def _draw(total: int, percent: float, generator: torch.Generator) -> Tensor:
    count = max(1, round(total * percent / 100))
    return torch.randperm(total, generator=generator)[:count]


def layer_of(name: str) -> str:
    """Return the layer of a module: its name up to the first number, or its parent's name."""
    numbered = re.match(r"(.*?\.)?\d+(?=\.|$)", name)
    return numbered.group() if numbered else name.rpartition(".")[0]
