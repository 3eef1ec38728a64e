"""Equal tuning: the same number of trials, on validation alone, for every method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import tune
from harness.cards import METHODS
from harness.config import RunConfig, RunRequest, resolve
from harness.errors import UserError
from harness.matrix import Made
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.records import make_record
from harness.testing.runs import small_request
from harness.tune import Tuner, beyond, first_rates


def config(method: str) -> RunConfig:
    return resolve(RunRequest(method=method, task="vqa"))


@given(method=st.sampled_from(METHODS.names()), trials=st.integers(2, 12))
def test_every_method_gets_as_many_rates_its_own_among_them(method: str, trials: int) -> None:
    of = config(method)
    rates = first_rates(of, trials)
    assert len(set(rates)) == trials
    assert of.train.lr in rates


@pytest.mark.parametrize(
    ("best", "further"), [(0.1, 1.0), (0.001, 0.0001), (0.01, None), (None, None)]
)
def test_a_best_rate_at_the_edge_extends_the_grid(
    best: float | None, further: float | None
) -> None:
    assert beyond([0.001, 0.01, 0.1], best) == further


class Bench:
    """Scores rates instead of running them: best is the one nearest to ``peak``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, peak: float, broken: bool = False) -> None:
        self.peak, self.broken = peak, broken
        self.seen: list[tuple[float, int, RunOptions]] = []
        monkeypatch.setattr(tune, "run_matrix", self.run_matrix)

    def run_matrix(
        self, configs: Sequence[RunConfig], workers: int, options: RunOptions, view: Any
    ) -> list[Made]:
        return [self.made(one, options) for one in configs]

    def made(self, one: RunConfig, options: RunOptions) -> Made:
        rate = one.train.lr
        self.seen.append((rate, one.seed, options))
        if self.broken:
            return Made(one, make_record(status="diverged", error="the loss became nan"))
        score = 1 / (1 + abs(rate / self.peak - 1))
        metrics = make_record().metrics.model_copy(update={"test": {}, "val": {}})
        metrics = metrics.model_copy(update={"val": {metrics.primary: score}})
        return Made(one, make_record(metrics=metrics))


def tuner(output: Path, trials: int = 4) -> Tuner:
    return Tuner(trials, 1, RunOptions(output, None, -1))


def test_the_best_rate_is_taken_and_the_trials_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(monkeypatch, peak=3e-3)
    tuning = tuner(tmp_path)
    request = tuning(RunRequest(method="lst", task="vqa"))
    assert resolve(request).train.lr == 3e-3
    (found,) = tuning.found
    assert (found.rate, found.trials) == (3e-3, 4)
    assert {seed for _, seed, _ in bench.seen} == {tune.SEED}
    for _, _, options in bench.seen:
        assert not options.open_test
        assert options.output == tmp_path / "tuning"
        assert options.tracking_uri == "off"


def test_a_grid_is_extended_until_its_best_lies_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(monkeypatch, peak=0.1)
    tuning = tuner(tmp_path)
    tuning(RunRequest(method="lst", task="vqa"))
    assert max(rate for rate, _, _ in bench.seen) > 0.01
    assert 4 < tuning.found[0].trials <= 4 + tune.MOST_STEPS
    assert len(tuning.found[0].scores) == tuning.found[0].trials


def test_a_method_that_cannot_be_tuned_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bench(monkeypatch, peak=1, broken=True)
    with pytest.raises(UserError, match="None of the 4 trials of 'lst' on 'vqa'"):
        tuner(tmp_path)(RunRequest(method="lst", task="vqa"))


def test_a_trial_never_opens_the_test_split(tmp_path: Path) -> None:
    small = ("train.epochs=1", "memory.profile=false")
    options = RunOptions(tmp_path, "off", -1, open_test=False)
    record = run(resolve(small_request("lst", *small)), options)
    assert record.status == "done"
    assert record.metrics.val
    assert not record.metrics.test
    assert not record.artifacts
    assert not list((tmp_path / "artifacts").rglob("*.safetensors"))
