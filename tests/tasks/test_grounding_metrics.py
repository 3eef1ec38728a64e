"""Laws of box overlap, against counting pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from harness.errors import UserError
from tasks.metrics import box_giou, box_iou, grounding_scores

SIZE = 12

corners = st.tuples(*[st.integers(0, SIZE)] * 4)
pixel_boxes = corners.map(lambda c: (min(c[::2]), min(c[1::2]), max(c[::2]), max(c[1::2])))
box_pairs = st.lists(st.tuples(pixel_boxes, pixel_boxes), min_size=1, max_size=8)
any_float = st.floats(allow_nan=True, allow_infinity=True, width=32)
any_pairs = st.lists(
    st.tuples(st.tuples(*[any_float] * 4), st.tuples(*[any_float] * 4)), min_size=1, max_size=8
)


def columns(pairs) -> tuple[np.ndarray, np.ndarray]:
    table = np.asarray(pairs, dtype=np.float32)
    return table[:, 0], table[:, 1]


def pixels(box) -> np.ndarray:
    left, top, right, bottom = (int(side) for side in box)
    image = np.zeros((SIZE, SIZE), dtype=int)
    image[top:bottom, left:right] = 1
    return image.ravel()


@given(box_pairs.filter(lambda pairs: len(pairs) > 1))
def test_iou_is_the_share_of_common_pixels(pairs):
    one, other = (np.stack([pixels(box) for box in boxes], axis=1) for boxes in columns(pairs))
    counted = jaccard_score(one, other, average=None, zero_division=0.0)
    assert box_iou(*columns(pairs)) == pytest.approx(counted, abs=1e-9)


@given(box_pairs)
def test_giou_takes_off_the_pixels_around_both_that_neither_fills(pairs):
    expected = []
    for one, other in pairs:
        union = np.sum(pixels(one) | pixels(other))
        common = np.sum(pixels(one) & pixels(other))
        around = pixels(
            (
                min(one[0], other[0]),
                min(one[1], other[1]),
                max(one[2], other[2]),
                max(one[3], other[3]),
            )
        ).sum()
        overlap = common / union if union else 0.0
        expected.append(overlap - (around - union) / around if around else -1.0)
    assert box_giou(*columns(pairs)) == pytest.approx(expected, abs=1e-9)


@given(any_pairs)
def test_overlap_is_bounded_and_symmetric_for_any_numbers_at_all(pairs):
    one, other = columns(pairs)
    iou, giou = box_iou(one, other), box_giou(one, other)
    assert np.all((iou >= 0) & (iou <= 1))
    assert np.all((giou >= -1) & (giou <= iou))
    assert np.array_equal(iou, box_iou(other, one))
    assert np.array_equal(giou, box_giou(other, one))


@given(box_pairs, st.randoms(use_true_random=False))
def test_scores_are_fractions_that_ignore_the_order_of_rows(pairs, random):
    scores = grounding_scores(*columns(pairs))
    assert all(0.0 <= score <= 1.0 for score in scores.values())
    assert scores["accuracy@0.5/giou"] <= scores["accuracy@0.5"]
    assert grounding_scores(*columns(random.sample(pairs, len(pairs)))) == pytest.approx(scores)


@given(box_pairs)
def test_only_boxes_with_an_area_can_be_met(pairs):
    boxes, _ = columns(pairs)
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    assert np.array_equal(box_iou(boxes, boxes), has_area.astype(float))


@pytest.mark.parametrize(
    "box",
    [(2, 0, 3, 1), (5, 5, 6, 6), (1, 0, 0, 1), (0, 0, 0, 0), (0, 0, np.nan, 1), (0, 0, np.inf, 1)],
)
def test_a_box_apart_without_area_or_without_end_earns_nothing(box):
    scores = grounding_scores(np.asarray([box], float), np.asarray([(0, 0, 1, 1)], float))
    assert set(scores.values()) == {0.0}


def test_half_covered_counts_as_found():
    expected = np.asarray([(0, 0, 4, 4)] * 3)
    predicted = np.asarray([(0, 0, 4, 2), (0, 0, 4, 1), (0, 0, 4, 4)])
    scores = grounding_scores(predicted, expected)
    assert scores == pytest.approx(
        {"accuracy@0.5": 2 / 3, "accuracy@0.5/giou": 2 / 3, "mean_iou": 1.75 / 3}
    )


def test_no_boxes_and_boxes_of_another_shape_are_refused():
    with pytest.raises(UserError, match="at least one row"):
        grounding_scores(np.empty((0, 4)), np.empty((0, 4)))
    with pytest.raises(ValueError, match="must be"):
        box_iou(np.zeros((2, 5)), np.zeros((2, 5)))
