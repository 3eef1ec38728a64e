"""Visual grounding: how well one predicted box covers the expected one."""

import numpy as np

from tasks.metrics.classification import check_rows

_THRESHOLD = 0.5


def grounding_scores(predicted: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Return accuracy at an IoU of 0.5, the same by generalised IoU, and the mean IoU.

    A box counts from 0.5 on. Accuracy by IoU is the usual measure of RefCOCO (Yu et al. 2016,
    "Modeling Context in Referring Expressions"); MDETR's evaluation, and with it UniPT's and
    SHERL's, counts by generalised IoU, which is never higher.

    Args:
        predicted: float [rows, 4], one box a row: left, top, right, bottom.
        expected: float [rows, 4].

    Raises:
        UserError: there are no rows.
    """
    iou, giou = box_iou(predicted, expected), box_giou(predicted, expected)
    return {
        "accuracy@0.5": float(np.mean(iou >= _THRESHOLD)),
        "accuracy@0.5/giou": float(np.mean(giou >= _THRESHOLD)),
        "mean_iou": float(np.mean(iou)),
    }


def box_iou(predicted: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the intersection over union of the two boxes of every row, float64 [rows].

    It is 0 where a box has no area (its right is not right of its left, or its bottom not below
    its top) or is not finite. Coordinates are continuous: a box is ``right - left`` wide.

    Args:
        predicted: float [rows, 4]: left, top, right, bottom.
        expected: float [rows, 4].

    Raises:
        UserError: there are no rows.
    """
    one, other = _boxes(predicted, expected)
    with np.errstate(invalid="ignore", over="ignore"):
        intersection, union = _intersection_and_union(one, other)
        return _ratio(intersection, union)


def box_giou(predicted: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the generalised IoU of the two boxes of every row, float64 [rows] in [-1, 1].

    It is the IoU less the share of the smallest box around both that neither fills, and -1 where a
    box is not finite or the box around both has no area.
    Source: Rezatofighi et al. 2019, "Generalized Intersection over Union".

    Args:
        predicted: float [rows, 4]: left, top, right, bottom.
        expected: float [rows, 4].

    Raises:
        UserError: there are no rows.
    """
    one, other = _boxes(predicted, expected)
    with np.errstate(invalid="ignore", over="ignore"):
        intersection, union = _intersection_and_union(one, other)
        around = _area(
            np.minimum(one[:, :2], other[:, :2]),
            np.maximum(one[:, 2:], other[:, 2:]),
        )
        filled = np.minimum(_ratio(union, around), 1.0)
        giou = _ratio(intersection, union) - (1.0 - filled)
        return np.where(np.isfinite(around) & (around > 0), giou, -1.0)


def _boxes(predicted: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    check_rows(len(predicted), len(expected))
    one, other = np.asarray(predicted, np.float64), np.asarray(expected, np.float64)
    if one.shape != (len(one), 4) or other.shape != one.shape:
        raise ValueError(f"boxes must be [rows, 4]; got {one.shape} and {other.shape}")
    return one, other


def _intersection_and_union(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    intersection = _area(np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:]))
    union = _area(one[:, :2], one[:, 2:]) + _area(other[:, :2], other[:, 2:]) - intersection
    return intersection, union


def _area(left_top: np.ndarray, right_bottom: np.ndarray) -> np.ndarray:
    sides = np.maximum(right_bottom - left_top, 0.0)  # NaN stays NaN
    return sides[:, 0] * sides[:, 1]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``, 0 where the whole is nothing or not a number."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
