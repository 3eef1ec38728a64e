"""GLUE's metrics against scikit-learn and SciPy, and how a task with several is scored."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from harness.cards import TASKS
from harness.errors import UserError
from tasks.metrics import (
    f1,
    matthews,
    pearson,
    spearman,
    text_scores,
)

classes = st.integers(-1, 2)  # -1: an answer that is no class
class_rows = st.lists(st.tuples(classes, st.integers(0, 2)), min_size=1, max_size=40)
binary_rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)
similarity = st.integers(0, 50).map(lambda tenths: tenths / 10)
similarity_rows = st.lists(st.tuples(similarity, similarity), min_size=2, max_size=40)


def columns(pairs, dtype=np.int64) -> tuple[np.ndarray, np.ndarray]:
    table = np.asarray(pairs, dtype=dtype)
    return table[:, 0], table[:, 1]


def varied(pairs) -> tuple[np.ndarray, np.ndarray]:
    predicted, expected = columns(pairs, float)
    assume(len(set(predicted)) > 1 and len(set(expected)) > 1)
    return predicted, expected


@given(st.one_of(class_rows, binary_rows))
@settings(max_examples=60)
def test_matthews_is_scikit_learns(pairs):
    predicted, expected = columns(pairs)
    assume(len(set(predicted)) > 1 and len(set(expected)) > 1)
    reference = sklearn_metrics.matthews_corrcoef(expected, predicted)
    assert matthews(predicted, expected) == pytest.approx(reference, abs=1e-9)


@given(class_rows)
@settings(max_examples=60)
def test_f1_is_scikit_learns(pairs):
    predicted, expected = columns(pairs)
    reference = sklearn_metrics.f1_score(expected == 1, predicted == 1, zero_division=0.0)
    assert f1(predicted, expected) == pytest.approx(reference, abs=1e-9)


@given(similarity_rows)
@settings(max_examples=60)
def test_correlations_are_scipys(pairs):
    predicted, expected = varied(pairs)
    reference = stats.pearsonr(predicted, expected).statistic
    assert pearson(predicted, expected) == pytest.approx(reference, abs=1e-9)
    reference = stats.spearmanr(predicted, expected).statistic
    assert spearman(predicted, expected) == pytest.approx(reference, abs=1e-9)


@given(class_rows, st.randoms(use_true_random=False))
def test_class_metrics_are_bounded_and_ignore_the_order_of_rows(pairs, random):
    predicted, expected = columns(pairs)
    assert -1.0 <= matthews(predicted, expected) <= 1.0
    assert 0.0 <= f1(predicted, expected) <= 1.0
    shuffled = columns(random.sample(pairs, len(pairs)))
    assert matthews(*shuffled) == matthews(predicted, expected)
    assert f1(*shuffled) == f1(predicted, expected)


@given(binary_rows)
def test_matthews_turns_its_sign_when_every_answer_is_turned(pairs):
    predicted, expected = columns(pairs)
    assert matthews(1 - predicted, expected) == -matthews(predicted, expected)
    if len(set(expected)) > 1:
        assert matthews(expected, expected) == 1.0


@given(similarity_rows, st.randoms(use_true_random=False))
def test_correlations_are_bounded_symmetric_and_ignore_the_order_of_rows(pairs, random):
    predicted, expected = columns(pairs, float)
    shuffled = columns(random.sample(pairs, len(pairs)), float)
    for correlation in (pearson, spearman):
        score = correlation(predicted, expected)
        assert -1.0 <= score <= 1.0
        assert correlation(expected, predicted) == pytest.approx(score, abs=1e-9)
        assert correlation(*shuffled) == pytest.approx(score, abs=1e-9)


@given(similarity_rows)
def test_pearson_sees_no_unit_and_spearman_only_the_order(pairs):
    predicted, expected = varied(pairs)
    assert pearson(3 * predicted + 7, expected) == pytest.approx(pearson(predicted, expected))
    assert spearman(np.exp(predicted), expected) == spearman(predicted, expected)
    assert spearman(-predicted, expected) == pytest.approx(-spearman(predicted, expected))


def test_correlations_survive_very_small_and_very_large_numbers():
    small, large = np.asarray([1.0, 2.0, 4.0]) * 1e-200, np.asarray([1.0, 2.0, 4.0]) * 1e200
    assert pearson(small, large) == pytest.approx(1.0)


@pytest.mark.parametrize("values", [[3.0, 3.0, 3.0], [1.0, np.nan, 2.0], [1.0, np.inf, 2.0]])
def test_a_correlation_with_what_does_not_vary_or_is_not_finite_is_zero(values):
    expected = np.asarray([1.0, 2.0, 3.0])
    for correlation in (pearson, spearman):
        assert correlation(np.asarray(values), expected) == 0.0
        assert correlation(expected, np.asarray(values)) == 0.0


@pytest.mark.parametrize("only", [0, 1])
def test_a_single_class_earns_no_matthews_and_f1_only_where_it_is_the_positive_one(only):
    same, mixed = np.full(4, only), np.asarray([0, 1, 1, 0])
    assert matthews(same, mixed) == matthews(mixed, same) == matthews(same, same) == 0.0
    assert f1(same, same) == only


def test_no_rows_is_a_clear_error_for_every_metric():
    nothing = np.empty(0, dtype=np.int64)
    for name in ("accuracy", "f1", "matthews", "pearson", "spearman"):
        with pytest.raises(UserError, match="at least one row"):
            text_scores((name,), nothing, nothing)


OFFICIAL = {
    "cola": ["matthews"],
    "sst2": ["accuracy"],
    "mrpc": ["accuracy", "f1"],
    "qqp": ["accuracy", "f1"],
    "mnli": ["accuracy"],
    "qnli": ["accuracy"],
    "rte": ["accuracy"],
    "stsb": ["pearson", "spearman"],
}


@pytest.mark.parametrize("task", OFFICIAL)
def test_every_task_has_its_official_metrics_and_their_mean_as_score(task):
    predicted, expected = np.asarray([0, 1, 1, 0, 1]), np.asarray([0, 1, 0, 0, 1])
    named = {
        "accuracy": sklearn_metrics.accuracy_score(expected, predicted),
        "f1": sklearn_metrics.f1_score(expected, predicted),
        "matthews": sklearn_metrics.matthews_corrcoef(expected, predicted),
        "pearson": stats.pearsonr(predicted, expected).statistic,
        "spearman": stats.spearmanr(predicted, expected).statistic,
    }
    reported = set(TASKS.card(task).metrics) - {"score"}
    scores = text_scores(sorted(reported), predicted, expected)
    assert scores.pop("score") == pytest.approx(np.mean([named[n] for n in OFFICIAL[task]]))
    assert scores == pytest.approx({name: named[name] for name in OFFICIAL[task]})
