"""The algebra of effects, interactions, shares and importances."""

import math
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.studies.effects import Analysis, MainEffect, analyse
from reports.studies.fitting import Observation
from reports.studies.importances import fanova

VALUES = st.floats(0.2, 0.95)


@st.composite
def designs(draw, min_axes=1):
    """Draw the sizes of a full factorial design, its seeds and its outcomes."""
    sizes = draw(st.lists(st.integers(2, 3), min_size=min_axes, max_size=3))
    seeds = draw(st.integers(1, 2))
    number = math.prod(sizes) * seeds
    outcomes = iter(draw(st.lists(VALUES, min_size=number, max_size=number)))
    return sizes, full(sizes, seeds, lambda levels, seed: next(outcomes))


def full(sizes, seeds, outcome):
    return [
        Observation(levels, seed, outcome(levels, seed))
        for levels in product(*map(range, sizes))
        for seed in range(seeds)
    ]


def values_of(effect: MainEffect) -> list[float]:
    return [estimate.value for estimate in effect.effects]


def effects_of(analysis: Analysis) -> list[list[float]]:
    return [values_of(effect) for effect in analysis.effects]


@settings(max_examples=40)
@given(designs())
def test_effects_of_a_balanced_design_are_differences_of_means_and_sum_to_zero(drawn):
    sizes, observations = drawn
    analysis = analyse(observations, sizes)
    mean = np.mean([o.value for o in observations])
    for effect in analysis.effects:
        values = [estimate.value for estimate in effect.effects]
        assert sum(values) == pytest.approx(0, abs=1e-9)
        assert values == pytest.approx([level - mean for level in effect.means], abs=1e-9)
        assert effect.scope.balanced
        assert effect.scope.mean == pytest.approx(mean)


@settings(max_examples=40)
@given(designs(min_axes=2))
def test_contrasts_of_a_balanced_design_sum_to_zero_over_rows_and_columns(drawn):
    sizes, observations = drawn
    for pair in analyse(observations, sizes).interactions:
        contrasts = np.asarray([[e.value for e in row] for row in pair.contrasts])
        assert contrasts.sum(0) == pytest.approx(0, abs=1e-9)
        assert contrasts.sum(1) == pytest.approx(0, abs=1e-9)
        means = np.asarray(pair.means)
        expected = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
        assert contrasts == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40)
@given(designs())
def test_shares_of_a_balanced_design_sum_to_one(drawn):
    sizes, observations = drawn
    analysis = analyse(observations, sizes)
    shares = [term.share for term in (*analysis.effects, *analysis.interactions)]
    (scope,) = analysis.scopes
    if np.ptp([o.value for o in observations]) < 1e-6:
        return
    total = sum(shares) + scope.higher_order_share + (scope.seeds_share or 0)
    assert total == pytest.approx(1, abs=1e-6)


@settings(max_examples=40)
@given(
    st.lists(st.lists(VALUES, min_size=2, max_size=3), min_size=2, max_size=3),
    st.sampled_from([1, 2]),
)
def test_additive_outcomes_are_recovered_without_interactions(parts, seeds):
    sizes = [len(part) for part in parts]
    observations = full(
        sizes, seeds, lambda levels, seed: sum(p[i] for p, i in zip(parts, levels, strict=True))
    )
    analysis = analyse(observations, sizes)
    for part, values in zip(parts, effects_of(analysis), strict=True):
        assert values == pytest.approx([v - np.mean(part) for v in part], abs=1e-9)
    for pair in analysis.interactions:
        values = [e.value for row in pair.contrasts for e in row]
        assert values == pytest.approx([0] * len(values), abs=1e-9)
        if pair.share is not None and np.ptp([o.value for o in observations]) > 1e-3:
            assert pair.share == pytest.approx(0, abs=1e-6)


@settings(max_examples=40)
@given(
    st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=3, max_size=3),
    st.integers(0, 26),
)
def test_additive_outcomes_are_recovered_where_a_cell_is_missing(parts, missing):
    observations = full(
        [3, 3, 3], 1, lambda levels, seed: sum(parts[a][levels[a]] for a in range(3))
    )
    gone = observations.pop(missing)
    analysis = analyse(observations, [3, 3, 3])
    for part, values in zip(parts, effects_of(analysis), strict=True):
        assert values == pytest.approx([v - np.mean(part) for v in part], abs=1e-9)
    (scope,) = analysis.scopes
    assert not scope.balanced
    assert scope.missing == (gone.levels,)


@settings(max_examples=40)
@given(designs(min_axes=2), st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_order_of_runs_changes_nothing(drawn, order: random.Random, dropped):
    sizes, observations = drawn
    known = observations[min(dropped, len(observations) - 1) :]
    shuffled = order.sample(known, len(known))
    assert analyse(shuffled, sizes) == analyse(known, sizes)


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(7)
    bits, experts = np.asarray([-0.03, 0.01, 0.02]), np.asarray([-0.02, 0.02])
    together = np.asarray([[0.01, -0.01], [0.0, 0.0], [-0.01, 0.01]])
    covered = []
    for _ in range(300):
        observations = full(
            [3, 2],
            2,
            lambda levels, seed: (
                0.8
                + bits[levels[0]]
                + experts[levels[1]]
                + together[levels]
                + 0.01 * generator.standard_normal()
            ),
        )
        analysis = analyse(observations, [3, 2])
        first, second = analysis.effects
        (pair,) = analysis.interactions
        estimates = [*first.effects, *second.effects, *(e for row in pair.contrasts for e in row)]
        truths = [*bits, *experts, *together.ravel()]
        covered.append([e.low <= t <= e.high for e, t in zip(estimates, truths, strict=True)])
    assert np.mean(covered, axis=0) == pytest.approx(0.95, abs=0.04)


def test_an_interval_is_that_of_a_difference_of_means():
    """Two levels, two seeds each: the t-interval of the pooled variance, two degrees of freedom."""
    outcomes = {(0, 0): 0.80, (0, 1): 0.82, (1, 0): 0.90, (1, 1): 0.94}
    analysis = analyse([Observation((i,), s, v) for (i, s), v in outcomes.items()], [2])
    low, high = analysis.effects[0].effects
    variance = (0.01**2 * 2 + 0.02**2 * 2) / 2
    half = 4.302652729911275 * math.sqrt(variance / 4)
    assert high.value == pytest.approx(0.055)
    assert (high.low, high.high) == pytest.approx((0.055 - half, 0.055 + half))
    assert (low.low, low.high) == pytest.approx((-0.055 - half, -0.055 + half))
    assert analysis.scopes[0].error_source == "seeds"
    assert analysis.scopes[0].error.freedom == 2


@pytest.mark.parametrize(
    ("sizes", "seeds", "source", "freedom"),
    [
        ([2, 3, 2], 2, "seeds", 12),
        ([2, 3, 2], 1, "residual", 2),
        ([2, 3], 1, "two-way interactions", 2),
        ([3], 1, "none", 0),
    ],
)
def test_the_source_of_the_error_is_stated(sizes, seeds, source, freedom):
    generator = np.random.default_rng(0)
    observations = full(sizes, seeds, lambda levels, seed: generator.random())
    analysis = analyse(observations, sizes)
    (scope,) = analysis.scopes
    assert (scope.error_source, scope.error.freedom) == (source, freedom)
    has_interval = [e.low is not None for effect in analysis.effects for e in effect.effects]
    assert has_interval == [source != "none"] * sum(sizes)
    for pair in analysis.interactions:
        for estimate in (e for row in pair.contrasts for e in row):
            assert (estimate.low is not None) == (source in ("seeds", "residual"))


def test_an_interaction_with_an_empty_cell_is_left_out_and_said():
    observations = full([2, 3, 2], 2, lambda levels, seed: sum(levels) + 0.1 * seed)
    observations = [o for o in observations if o.levels[:2] != (1, 2)]
    analysis = analyse(observations, [2, 3, 2])
    (scope,) = analysis.scopes
    assert scope.left_out == ((0, 1),)
    assert scope.missing == ((1, 2, 0), (1, 2, 1))
    empty = next(pair for pair in analysis.interactions if pair.axes == (0, 1))
    assert empty.contrasts is None
    assert empty.share is None
    assert empty.means[1][2] is None
    assert effects_of(analysis)[0] == pytest.approx([-0.5, 0.5])


def test_a_sparse_sample_gives_its_main_effects_no_interactions():
    """A third of the combinations: nearly as many columns as settings would hide main effects."""
    generator = np.random.default_rng(5)
    whole = full([6, 4, 3, 2], 1, lambda levels, seed: levels[0] + 0.5 * levels[3])
    chosen = [whole[i] for i in generator.choice(len(whole), 50, replace=False)]
    analysis = analyse(chosen, [6, 4, 3, 2])
    assert len(analysis.scopes[0].left_out) == 6
    assert all(pair.contrasts is None for pair in analysis.interactions)
    assert values_of(analysis.effects[0]) == pytest.approx([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert values_of(analysis.effects[3]) == pytest.approx([-0.25, 0.25])


def test_factors_that_always_change_together_are_confounded():
    observations = [
        Observation((i, i, j), seed, i + j + 0.1 * seed)
        for i, j, seed in product(range(2), range(3), range(2))
    ]
    analysis = analyse(observations, [2, 2, 3])
    assert [effect.effects is None for effect in analysis.effects] == [True, True, False]
    assert analysis.scopes[0].confounded == (0, 1)
    assert values_of(analysis.effects[2]) == pytest.approx([-1, 0, 1])


def test_a_factor_that_does_not_apply_everywhere_is_analysed_where_it_does():
    """Rounding applies below the third level of bits alone."""
    observations = [
        Observation((bits, rounding), seed, 10 * bits + rounding + 0.1 * seed)
        for bits, rounding, seed in product(range(2), range(2), range(2))
    ]
    observations += [Observation((2, None), seed, 20.5 + 0.1 * seed) for seed in range(2)]
    analysis = analyse(observations, [3, 2])
    bits, rounding = analysis.effects
    assert values_of(bits) == pytest.approx([-10, 0, 10])
    assert values_of(rounding) == pytest.approx([-0.5, 0.5])
    assert (bits.scope.points, rounding.scope.points) == (5, 4)
    assert rounding.scope.balanced
    assert rounding.scope.missing == ()
    (pair,) = analysis.interactions
    assert pair.rows == (0, 1)
    assert pair.scope == rounding.scope


def test_outcomes_without_variance_have_effects_of_zero_and_no_shares():
    analysis = analyse(full([2, 2], 2, lambda levels, seed: 0.7), [2, 2])
    assert effects_of(analysis) == [pytest.approx([0, 0], abs=1e-12)] * 2
    assert [effect.share for effect in analysis.effects] == [None, None]
    assert fanova(full([2, 2], 2, lambda levels, seed: 0.7), 2) == [None, None]


def test_a_factor_with_one_level_has_no_effect_and_nothing_has_none():
    assert analyse(full([1], 3, lambda levels, seed: seed), [1]) == Analysis((), (), ())
    assert analyse([], [2, 3]) == Analysis((), (), ())
    (effect,) = analyse(full([1, 2], 2, lambda levels, seed: sum(levels) + seed), [1, 2]).effects
    assert effect.axis == 1


@pytest.fixture(scope="module")
def known_function():
    """Peak = bits x sqrt(experts), a third factor without effect."""
    bits, experts = (2, 4, 8), (1, 2, 4, 8)
    return full([3, 4, 3], 1, lambda levels, seed: bits[levels[0]] * math.sqrt(experts[levels[1]]))


def test_shares_of_a_known_function(known_function):
    analysis = analyse(known_function, [3, 4, 3])
    assert [e.share for e in analysis.effects] == pytest.approx([0.607, 0.306, 0], abs=1e-3)
    shares = {pair.axes: pair.share for pair in analysis.interactions}
    assert shares == pytest.approx({(0, 1): 0.087, (0, 2): 0, (1, 2): 0}, abs=1e-3)


def test_fanova_ranks_a_known_function_and_repeats_itself(known_function):
    shares = fanova(known_function, 3)
    assert shares == pytest.approx([0.61, 0.31, 0], abs=0.1)
    assert fanova(known_function, 3) == shares


@settings(max_examples=10)
@given(designs(min_axes=2))
def test_fanova_shares_are_fractions(drawn):
    sizes, observations = drawn
    known = [share for share in fanova(observations, len(sizes)) if share is not None]
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in known)
    assert sum(known) <= 1 + 1e-6


def test_of_a_large_design_the_first_missing_combinations_are_named_and_all_counted():
    sizes = [5] * 6
    runs = [Observation(levels, 0, 0.5 + 0.01 * sum(levels)) for levels in DIAGONAL]
    (scope, *_) = analyse(runs, sizes).scopes
    assert (scope.combinations, scope.missing_count) == (5**6, 5**6 - len(DIAGONAL))
    assert len(scope.missing) == 100
    assert not set(scope.missing) & set(DIAGONAL)
    assert not scope.balanced


DIAGONAL = [(level,) * 6 for level in range(5)]
