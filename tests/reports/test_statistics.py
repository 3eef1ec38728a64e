import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.statistics import (
    Examples,
    Sample,
    bootstrap_mean,
    difference,
    differences_to_first,
    holm,
)

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=6)


def by_example(rows, asked: str = "the same") -> Sample:
    """Return a sample of runs with scores by example: one row a seed."""
    arrays = [np.asarray(row, dtype=float) for row in rows]
    examples = {seed: Examples(asked, scores) for seed, scores in enumerate(arrays)}
    return Sample(tuple(examples), tuple(float(a.mean()) for a in arrays), examples)


def over_seeds(*scores: float, first: int = 0) -> Sample:
    return Sample(tuple(range(first, first + len(scores))), scores)


def right(count: int, of: int = 200):
    return [1] * count + [0] * (of - count)


# The first two are worked by hand; the last is R's p.adjust(c(.01, .02, .03, .04, .05), "holm").
@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.9, 0.6], [1.0, 1.0]),
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
    ],
)
def test_holm_agrees_with_worked_values(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_lowers_no_p_value_keeps_their_order_and_is_no_stricter_than_bonferroni(p_values):
    corrected = holm(p_values)
    for p, found in zip(p_values, corrected, strict=True):
        assert p <= found <= min(1.0, len(p_values) * p)
    ordered = [found for _, found in sorted(zip(p_values, corrected, strict=True))]
    assert ordered == sorted(ordered)


def test_the_paired_t_interval_agrees_with_a_worked_value():
    found = difference(over_seeds(0.80, 0.82, 0.87), over_seeds(0.79, 0.80, 0.84))
    # Differences .01, .02, .03: mean .02, deviation .01, t(0.975, 2) = 4.302653
    half = 4.302653 * 0.01 / 3**0.5
    assert found.how == "paired t-test"
    assert found.interval == pytest.approx((0.02 - half, 0.02 + half), abs=1e-7)
    assert found.p == pytest.approx(0.0741799, abs=1e-6)  # t = 2 sqrt(3)


def test_welchs_interval_agrees_with_a_worked_value():
    found = difference(over_seeds(0.1, 0.2, 0.3), over_seeds(0.1, 0.3, 0.5, 0.7, first=5))
    # Variances .01/3 and .0666667/4; df = .02^2 / (.01^2/9/2 + .0666667^2/16/3) = 4.0678
    assert found.how == "Welch's t-test"
    assert found.seeds == 3
    assert found.mean == pytest.approx(-0.2)
    assert found.p == pytest.approx(0.2289, abs=1e-3)
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(-0.2)
    assert (high - low) / 2 == pytest.approx(2.7603 * 0.02**0.5, abs=1e-3)


@pytest.mark.filterwarnings("error")
def test_a_side_whose_scores_are_all_the_same_rests_the_test_on_the_other():
    found = difference(over_seeds(0.7, 0.7, 0.7), over_seeds(0.1, 0.3, 0.5, 0.7, first=5))
    # Variance .0666667/4 and its 3 degrees of freedom alone.
    low, high = found.interval
    assert (low + high) / 2 == pytest.approx(0.3)
    assert (high - low) / 2 == pytest.approx(3.1824 * (0.2666667 / 16) ** 0.5, abs=1e-3)


@given(SCORES, SCORES)
def test_a_difference_over_seeds_changes_its_sign_with_its_sides(one, other):
    there = difference(over_seeds(*one), over_seeds(*other))
    back = difference(over_seeds(*other), over_seeds(*one))
    assert there.mean == pytest.approx(-back.mean, abs=1e-12)
    assert (there.how, there.reason) == (back.how, back.reason)
    if there.how:
        assert there.interval == pytest.approx([-end for end in reversed(back.interval)], abs=1e-9)
        assert there.p == pytest.approx(back.p, abs=1e-9)


@settings(max_examples=20)
@given(
    st.integers(1, 3).flatmap(
        lambda seeds: st.lists(
            st.lists(st.integers(-1, 1), min_size=seeds, max_size=seeds), min_size=2, max_size=30
        )
    )
)
def test_a_bootstrap_changes_its_sign_with_its_values_and_holds_its_mean(columns):
    values = np.asarray(columns, dtype=float).T
    (low, high), p = bootstrap_mean(values)
    assert low - 1e-12 <= values.mean() <= high + 1e-12
    (other_low, other_high), other_p = bootstrap_mean(-values)
    assert (other_low, other_high) == pytest.approx((-high, -low), abs=1e-12)
    assert p == other_p
    assert 0 < p <= 1
    assert bootstrap_mean(values) == ((low, high), p)


def test_a_bootstrap_over_examples_agrees_with_the_normal_interval():
    values = np.asarray([right(120, 400)]) - np.asarray([right(80, 400)])
    (low, high), p = bootstrap_mean(values.astype(float))
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=0.006)
    assert p == 0.001  # the least that can be found


def test_seeds_that_disagree_widen_a_bootstrap():
    agree = np.tile(np.asarray(right(10)), (4, 1))
    disagree = np.stack([np.asarray(right(n)) for n in (0, 0, 20, 20)])
    assert agree.mean() == disagree.mean()
    widths = [np.ptp(bootstrap_mean(v.astype(float))[0]) for v in (agree, disagree)]
    assert widths[0] < widths[1]


def test_scores_by_example_let_one_seed_be_compared():
    found = difference(by_example([right(100)]), by_example([right(140)]))
    assert (found.how, found.seeds, found.examples) == ("paired bootstrap", 1, 200)
    assert found.mean == pytest.approx(-0.2)
    assert found.interval[1] < 0


def test_other_examples_are_not_paired():
    found = difference(by_example([right(100)]), by_example([right(140)], asked="something else"))
    assert found.how is None
    assert found.reason == "one seed and no scores by example"


def test_of_two_tests_the_more_cautious_one_counts():
    # Three seeds whose differences vary much more than 20,000 examples let expect.
    one = by_example([right(n, 20_000) for n in (10_100, 10_900, 12_500)])
    other = by_example([right(10_000, 20_000)] * 3)
    bootstrapped = bootstrap_mean(
        np.stack([one.examples[s].scores - other.examples[s].scores for s in range(3)])
    )[1]
    found = difference(one, other)
    assert bootstrapped < 0.05 < found.p
    assert found.how == "paired t-test"


def test_one_seed_cannot_be_tested_without_examples():
    found = difference(over_seeds(0.5), over_seeds(0.9, 0.91))
    assert found.mean == pytest.approx(-0.405)
    assert (found.interval, found.p, found.how) == (None, None, None)
    assert not found.excludes_zero


def test_the_same_difference_for_every_seed_proves_nothing():
    found = difference(over_seeds(0.5, 0.6), over_seeds(0.7, 0.8))
    assert found.reason == "seeds that do not vary"
    tie = difference(by_example([right(50)]), by_example([right(50)]))
    assert (tie.mean, tie.interval, tie.p) == (0, (0, 0), 1)


def test_only_what_was_tested_counts_for_the_correction():
    best = over_seeds(0.9, 0.91, 0.89)
    others = [over_seeds(0.5, 0.52, 0.47), over_seeds(0.4), over_seeds(0.88, 0.9, 0.91)]
    found = differences_to_first([best, *others])
    p_values = [d.p for d in found]
    assert p_values[1] is None
    assert found[1].p_holm is None
    assert [found[0].p_holm, found[2].p_holm] == holm([p_values[0], p_values[2]])


def test_tables_import_no_scipy_stats_before_there_is_something_to_test():
    code = "import json, sys, reports.tables; print(json.dumps('scipy.stats' in sys.modules))"
    root = Path(__file__).resolve().parents[2]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert json.loads(shown.stdout) is False
