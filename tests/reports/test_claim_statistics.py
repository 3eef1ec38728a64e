"""The statistics of the verdicts on the paper's statements."""

import json
from pathlib import Path

import numpy as np
import pytest
from claim_runs import pairs, verdict
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.record import Record, file_artifact
from reports.reproduce.statistics import (
    MIN_SEEDS,
    hierarchical_bootstrap,
    seeds_needed,
    within_deviation,
)
from reports.statistics import Examples, holm

SCORES = st.floats(-5, 5, allow_nan=False)
VALUES = st.dictionaries(
    st.sampled_from("abcd"), st.lists(SCORES, min_size=1, max_size=6), min_size=1
)


@given(values=VALUES)
@settings(max_examples=40)
def test_the_bootstrap_is_repeatable_and_stays_within_what_was_seen(
    values: dict[str, list[float]],
) -> None:
    found = hierarchical_bootstrap(values, 200)
    seen = [x for own in values.values() for x in own]
    low, high = found.interval(0.95)
    assert min(seen) - 1e-9 <= low <= high <= max(seen) + 1e-9
    assert min(seen) - 1e-9 <= found.effect <= max(seen) + 1e-9
    assert hierarchical_bootstrap(values, 200).interval(0.95) == (low, high)
    inner = found.interval(0.90)
    assert low <= inner[0] <= inner[1] <= high


def test_every_task_weighs_the_same_and_tasks_that_differ_widen_the_interval() -> None:
    apart = hierarchical_bootstrap({"a": [0.0] * 10, "b": [2.0]})
    assert apart.effect == 1.0
    assert apart.interval(0.95) == (0.0, 2.0)
    alike = hierarchical_bootstrap({"a": [1.0] * 5, "b": [1.0] * 5})
    assert alike.interval(0.95) == (1.0, 1.0)
    assert alike.p_above(0.0) == pytest.approx(1e-4, rel=1e-3)
    assert alike.p_below(0.0) == 1.0


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        values = {
            str(task): list(rng.normal(rng.normal(1.0, 0.5), 0.5, size=8)) for task in range(12)
        }
        low, high = hierarchical_bootstrap(values, 400).interval(0.95)
        held += low <= 1.0 <= high
    assert 85 <= held <= 100


@given(st.lists(st.floats(0, 1), min_size=1, max_size=14))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values, 14)
    assert all(1 >= a >= p for a, p in zip(adjusted, p_values, strict=True))
    by_p = [a for _, a in sorted(zip(p_values, adjusted, strict=True))]
    assert by_p == sorted(by_p)
    assert adjusted[p_values.index(min(p_values))] == min(1, 14 * min(p_values))


def test_holm_gives_the_numbers_of_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03], 3) == pytest.approx([0.03, 0.06, 0.06])


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.integers(1, 8))
def test_noisier_runs_take_more_seeds_and_never_fewer_than_five(
    deviation: float, distance: float, tasks: int
) -> None:
    needed = seeds_needed(deviation, distance, tasks)
    more = seeds_needed(2 * deviation, distance, tasks)
    assert needed is None or needed >= MIN_SEEDS
    assert more is None or (needed is not None and more >= needed)
    assert seeds_needed(deviation, 0.0, tasks) is None


def test_a_known_power_calculation() -> None:
    assert seeds_needed(1.0, 0.5, 1) == 32  # ((1.960 + 0.842) / 0.5)^2 = 31.4
    assert seeds_needed(1.0, 0.5, 4) == 8


def test_the_spread_is_pooled_within_tasks() -> None:
    assert within_deviation({"a": [0.0, 2.0], "b": [10.0, 12.0]}) == pytest.approx(2**0.5)
    assert within_deviation({"a": [1.0], "b": [2.0]}) is None


def test_resampled_examples_widen_the_interval_and_leave_the_effect() -> None:
    values = {"a": [1.0, 1.2], "b": [1.1]}
    right = Examples("", np.repeat([100.0, -100.0, 0.0], [30, 20, 50]))
    alike = Examples("", np.full(50, 7.0))
    whole = hierarchical_bootstrap(values)
    wider = hierarchical_bootstrap(values, examples={"a": [right, right], "b": [None]})
    same = hierarchical_bootstrap(values, examples={"a": [alike, alike], "b": [None]})
    assert wider.effect == same.effect == whole.effect
    assert np.allclose(same.draws, whole.draws)
    low, high = whole.interval(0.95)
    assert wider.interval(0.95)[0] < low
    assert high < wider.interval(0.95)[1]


@pytest.mark.parametrize("seeds", [1, 5])
def test_the_spread_over_examples_is_the_error_of_their_mean_for_any_number_of_seeds(
    seeds: int,
) -> None:
    examples = Examples("", np.random.default_rng(0).choice([-100.0, 0.0, 100.0], 400))
    found = hierarchical_bootstrap({"a": [0.0] * seeds}, examples={"a": [examples] * seeds})
    assert found.draws.std() == pytest.approx(examples.scores.std() / 400**0.5, rel=0.05)
    assert found.draws.mean() == pytest.approx(0.0, abs=0.1)


def test_examples_of_another_test_set_are_drawn_apart() -> None:
    scores = np.random.default_rng(0).choice([-100.0, 0.0, 100.0], 400)
    apart = [Examples(asked, scores) for asked in "pqrs"]
    found = hierarchical_bootstrap({"a": [0.0] * 4}, examples={"a": apart})
    # Of four test sets with the same weight, a resample of the sets takes each once on average:
    # the squares of four multinomial counts sum to 4 * (1 + 3 / 4).
    expected = scores.std() / 400**0.5 * (7 / 16) ** 0.5
    assert found.draws.std() == pytest.approx(expected, rel=0.05)


def with_predictions(record: Record, output: Path, examples: int) -> Record:
    """Write predictions of which as many are right as the record's score says."""
    right = round(record.metrics.test["accuracy"] * examples)
    lines = [{"row": n, "correct": n < right} for n in range(examples)]
    path = output / f"{record.run_key}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return record.model_copy(update={"artifacts": {"predictions": file_artifact(path, output)}})


def test_examples_count_where_the_predictions_of_all_runs_are_at_hand(tmp_path: Path) -> None:
    records = [with_predictions(record, tmp_path, 1000) for record in pairs()]
    alone, with_examples = (verdict("H1", records, output).parts[0] for output in (None, tmp_path))
    assert (alone.examples, with_examples.examples) == (0, 3000)
    assert with_examples.effect == alone.effect
    spans = [part.interval[1] - part.interval[0] for part in (alone, with_examples)]
    assert spans[0] < spans[1]
    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    assert verdict("H1", records, tmp_path).parts[0].examples == 0
