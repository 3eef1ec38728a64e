"""Accuracy, whole and by group, and the check that there is something to score."""

from collections.abc import Hashable, Sequence

import numpy as np

from harness.errors import UserError


def accuracy(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Return the share of equal ids.

    Args:
        predicted: int64 [rows], ids >= 0.
        expected: int64 [rows]; a negative id equals no prediction.

    Raises:
        UserError: there are no rows.
    """
    check_rows(len(predicted), len(expected))
    return float(np.mean(predicted == expected))


def accuracy_by_group(
    predicted: np.ndarray, expected: np.ndarray, groups: Sequence[Hashable]
) -> dict[str, float]:
    """Return the accuracy within every group that occurs, by the group's name, sorted.

    Args:
        predicted: int64 [rows].
        expected: int64 [rows].
        groups: the group of every row.

    Raises:
        UserError: there are no rows.
    """
    check_rows(len(predicted), len(expected))
    names = np.asarray([str(group) for group in groups])
    return {
        str(name): accuracy(predicted[names == name], expected[names == name])
        for name in np.unique(names)
    }


def check_rows(predicted: int, expected: int) -> None:
    """Refuse metrics over no rows or over columns of two lengths.

    Raises:
        UserError: there are no rows.
        ValueError: the lengths differ.
    """
    if predicted != expected:
        raise ValueError(f"{predicted} predictions for {expected} expected values")
    if predicted == 0:
        raise UserError("A metric needs at least one row; the split is empty.")
