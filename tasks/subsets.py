"""Fixed subsets: no run's seed moves a row from one split to another."""

from collections.abc import Sequence

import numpy as np

_SEED = 20150611
_STREAMS = {"train": 1, "val": 2, "test": 3}
_CARVE_STREAM = 0


def carve_groups(groups: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows so that no group has rows on both sides.

    Args:
        groups: int64 [rows], for instance the image of each row.
        fraction: share of the groups that is set aside.

    Returns:
        The rows that stay and those set aside, int64, each in order.
    """
    numbers = np.unique(groups)
    count = max(1, round(fraction * len(numbers)))
    aside = np.isin(groups, numbers[_permutation(len(numbers), _CARVE_STREAM)[:count]])
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def fixed_subset(split: str, rows: int, bounds: Sequence[int | None]) -> np.ndarray:
    """Return as many rows as every bound allows, in order: the first of a fixed permutation.

    Args:
        split: ``train``, ``val`` or ``test``.
        rows: how many there are.
        bounds: None for none.
    """
    most = min([rows, *(bound for bound in bounds if bound is not None)])
    return np.sort(_permutation(rows, _STREAMS[split])[:most])


def _permutation(count: int, stream: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64([_SEED, stream])).permutation(count)
