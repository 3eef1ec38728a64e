"""GLUE: the metrics of its tasks, and a score for each.

Source: Wang et al. 2019, "GLUE: A Multi-Task Benchmark". Where a task has two metrics its score is
their mean, and the average is the plain mean over tasks. WNLI is left out, as Devlin et al. 2019
("BERT") and the literature of memory-efficient transfer learning do.
"""

import math
from collections.abc import Sequence

import numpy as np

from tasks.metrics.classification import accuracy, check_rows


def text_scores(
    names: Sequence[str], predicted: np.ndarray, expected: np.ndarray
) -> dict[str, float]:
    """Return some metrics of labelled texts, and their mean as ``score``.

    Args:
        names: of ``accuracy``, ``f1``, ``matthews``, ``pearson`` and ``spearman``.
        predicted: int64 [rows], ids of classes, a negative one for an answer that is no class; or
            float [rows], numbers.
        expected: of the same kind.

    Raises:
        UserError: there are no rows.
    """
    scores = {name: _METRICS[name](predicted, expected) for name in names}
    return {"score": float(np.mean(list(scores.values()))), **scores}


def matthews(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Return Matthews' correlation coefficient, for two classes or more.

    It is 0 where the predictions or the expected classes are all the same.
    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
    coefficient".

    Args:
        predicted: int64 [rows], ids of classes.
        expected: int64 [rows].

    Raises:
        UserError: there are no rows.
    """
    check_rows(len(predicted), len(expected))
    classes = np.unique(np.concatenate([predicted, expected]))
    said = [int(np.sum(predicted == c)) for c in classes]
    true = [int(np.sum(expected == c)) for c in classes]
    rows, right = len(expected), int(np.sum(predicted == expected))
    covariance = right * rows - sum(s * t for s, t in zip(said, true, strict=True))
    variances = (rows**2 - sum(s * s for s in said)) * (rows**2 - sum(t * t for t in true))
    return covariance / math.sqrt(variances) if variances else 0.0


def f1(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Return the F1 score of class 1; 0 where class 1 is neither predicted nor expected.

    Args:
        predicted: int64 [rows], ids of classes.
        expected: int64 [rows].

    Raises:
        UserError: there are no rows.
    """
    check_rows(len(predicted), len(expected))
    said, true = predicted == 1, expected == 1
    marked = int(np.sum(said)) + int(np.sum(true))
    return 2 * int(np.sum(said & true)) / marked if marked else 0.0


def pearson(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Return Pearson's correlation; 0 where either side is constant or not finite.

    Args:
        predicted: float [rows].
        expected: float [rows].

    Raises:
        UserError: there are no rows.
    """
    check_rows(len(predicted), len(expected))
    if not (_varies(predicted) and _varies(expected)):
        return 0.0
    one, other = _centred(predicted), _centred(expected)
    correlation = np.dot(one, other) / math.sqrt(np.dot(one, one) * np.dot(other, other))
    return float(np.clip(correlation, -1.0, 1.0))


def spearman(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Return Spearman's correlation: Pearson's of the ranks, where equal values share their mean.

    It is 0 where either side is constant or not finite.

    Args:
        predicted: float [rows].
        expected: float [rows].

    Raises:
        UserError: there are no rows.
    """
    check_rows(len(predicted), len(expected))
    if not (_varies(predicted) and _varies(expected)):
        return 0.0
    return pearson(_ranks(predicted), _ranks(expected))


_METRICS = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def _varies(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and np.any(values != values[0]))


def _centred(values: np.ndarray) -> np.ndarray:
    """Return the differences from the mean, scaled so that squares neither over- nor underflow."""
    centred = values.astype(np.float64) - np.mean(values, dtype=np.float64)
    return centred / np.max(np.abs(centred))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
