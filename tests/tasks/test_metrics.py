"""Laws and worked cases of accuracy and VQA accuracy."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from tasks.metrics import (
    accuracy,
    accuracy_by_group,
    mean_vqa_accuracy,
    normalize_answer,
    vqa_accuracy,
)

ids = st.integers(min_value=-1, max_value=4)
rows = st.lists(st.tuples(ids, ids), min_size=1, max_size=40)
words = st.sampled_from(["yes", "no", "red", "two"])


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.asarray(pairs, dtype=np.int64)
    return table[:, 0], table[:, 1]


@given(rows, st.randoms(use_true_random=False))
def test_accuracy_is_a_share_that_ignores_the_order_of_rows(pairs, random):
    score = accuracy(*columns(pairs))
    shuffled = random.sample(pairs, len(pairs))
    assert 0.0 <= score <= 1.0
    assert accuracy(*columns(shuffled)) == pytest.approx(score)


@given(rows)
def test_accuracy_of_what_was_expected_is_one(pairs):
    _, expected = columns(pairs)
    assert accuracy(expected, expected) == 1.0


@given(rows)
def test_accuracy_is_the_mean_of_the_groups_weighted_by_size(pairs):
    predicted, expected = columns(pairs)
    groups = [f"group {e % 2}" for e in expected]
    by_group = accuracy_by_group(predicted, expected, groups)
    weighted = sum(groups.count(name) * score for name, score in by_group.items()) / len(pairs)
    assert set(by_group) == set(groups)
    assert weighted == pytest.approx(accuracy(predicted, expected))


def test_no_rows_is_a_clear_error():
    nothing = np.empty(0, dtype=np.int64)
    for call in (
        lambda: accuracy(nothing, nothing),
        lambda: accuracy_by_group(nothing, nothing, []),
        lambda: mean_vqa_accuracy([], []),
    ):
        with pytest.raises(UserError, match="at least one row"):
            call()


@given(words, st.lists(words, min_size=10, max_size=10), st.randoms(use_true_random=False))
def test_vqa_accuracy_is_the_mean_over_all_nines_of_ten(predicted, answers, random):
    nines = [sum(a == predicted for a in nine) for nine in combinations(answers, 9)]
    expected = sum(min(matches / 3, 1) for matches in nines) / 10
    assert vqa_accuracy(predicted, answers) == pytest.approx(expected)
    assert vqa_accuracy(predicted, random.sample(answers, 10)) == vqa_accuracy(predicted, answers)


@pytest.mark.parametrize(("matches", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1)])
def test_vqa_accuracy_of_ten_answers(matches, score):
    answers = ["red"] * matches + ["blue"] * (10 - matches)
    assert vqa_accuracy("red", answers) == pytest.approx(score)


def test_vqa_accuracy_with_one_answer_is_plain_accuracy():
    assert mean_vqa_accuracy(["yes", "no", "red"], [["yes"], ["yes"], ["red"]]) == 2 / 3


@pytest.mark.parametrize("count", [0, 2, 3])
def test_vqa_accuracy_refuses_too_few_answers(count):
    with pytest.raises(UserError, match="at least"):
        vqa_accuracy("yes", ["yes"] * count)


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("A dog", "dog"),
        ("the  Red\tball.", "red ball"),
        ("two", "2"),
        ("none", "0"),
        ("dont know", "don't know"),
        ("well", "well"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("yall'd've", "y'all'd've"),
        ("twas", "'twas"),
        ("somebody'd", "somebodyd"),
        ("its", "its"),
        ("black/white", "black white"),
        ("yes!", "yes"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("St. Louis", "st louis"),
    ],
)
def test_answers_are_compared_in_one_normal_form(raw, normal):
    assert normalize_answer(raw) == normal


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(text):
    once = normalize_answer(text)
    assert normalize_answer(once) == once


def test_annotators_and_models_are_compared_in_normal_form_also_where_all_agree():
    assert vqa_accuracy("2", ["two"] * 10) == vqa_accuracy("The two!", ["2"] * 10) == 1.0
