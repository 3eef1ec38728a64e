"""GQA's accuracy by kind of question, and consistency."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from tasks.metrics import consistency, gqa_scores


@st.composite
def entailments(draw):
    """Whether each question is answered right, and which questions its answer entails."""
    count = draw(st.integers(2, 12))
    correct = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    positions = st.lists(st.integers(0, count - 1), max_size=4)
    entailed = draw(st.lists(positions, min_size=count, max_size=count))
    entailed[0] = [1, *entailed[0]]
    return np.asarray(correct), entailed


def test_accuracy_stands_whole_and_by_every_kind_of_question():
    scores = gqa_scores(
        np.asarray([0, 1, 2, 3]),
        np.asarray([0, 1, 0, 0]),
        structural=["query", "verify", "verify", "query"],
        semantic=["obj", "obj", "rel", "obj"],
    )
    assert scores == {
        "accuracy": 1 / 2,
        "accuracy/open": 1 / 2,
        "accuracy/binary": 1 / 2,
        "accuracy/structural/query": 1 / 2,
        "accuracy/structural/verify": 1 / 2,
        "accuracy/semantic/obj": 2 / 3,
        "accuracy/semantic/rel": 0.0,
    }


def test_consistency_averages_over_questions_and_not_over_what_they_entail():
    correct = np.asarray([True, True, False, True, False])
    entailed = [[1, 2, 3, 4], [3], [0], [], []]
    assert consistency(correct, entailed) == (2 / 4 + 1 / 1) / 2


@given(entailments())
def test_consistency_is_the_mean_of_shares_over_right_answers(case):
    correct, entailed = case
    shares = []
    for question, positions in enumerate(entailed):
        others = [position for position in positions if position != question]
        if correct[question] and others:
            shares.append(sum(bool(correct[other]) for other in others) / len(others))
    expected = sum(shares) / len(shares) if shares else 0.0
    assert consistency(correct, entailed) == pytest.approx(expected, abs=1e-12)


@given(entailments(), st.randoms(use_true_random=False))
def test_consistency_ignores_the_order_of_questions(case, random):
    correct, entailed = case
    order = random.sample(range(len(correct)), len(correct))
    place = {question: position for position, question in enumerate(order)}
    moved = [[place[other] for other in entailed[question]] for question in order]
    assert consistency(correct[order], moved) == pytest.approx(consistency(correct, entailed))


@given(entailments())
def test_a_model_that_is_always_right_is_consistent_and_one_that_never_is_earns_nothing(case):
    correct, entailed = case
    assert consistency(np.ones_like(correct), entailed) == 1.0
    assert consistency(np.zeros_like(correct), entailed) == 0.0


def test_consistency_without_entailments_is_a_clear_error():
    with pytest.raises(UserError, match="entails another"):
        consistency(np.asarray([True, False]), [[0], []])
    with pytest.raises(UserError, match="at least one row"):
        consistency(np.empty(0, dtype=bool), [])
