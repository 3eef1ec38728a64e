"""Benchmarks: what they compare is the same thing, and what they return can be said."""

import importlib
import json

import pytest
import torch

from harness.benchmarks import BENCHMARKS, lines, measure
from harness.benchmarks.timing import duel
from harness.cli import execute
from harness.errors import UserError
from methods.experts import bench as experts


@pytest.mark.parametrize("module", BENCHMARKS.values())
def test_every_benchmark_measures_and_says(module):
    found = importlib.import_module(module)
    assert callable(found.measure)
    assert callable(found.lines)


def test_an_unknown_benchmark_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'loop'"):
        next(measure("lop"))


def test_what_was_measured_before_one_fails_is_printed(monkeypatch, capsys):
    def some(_name):
        yield {"benchmark": "startup", "seconds": 1.0}
        raise UserError("there is no compiler")

    monkeypatch.setattr("harness.benchmarks.measure", some)
    assert execute(["bench", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == [{"benchmark": "startup", "seconds": 1.0}]
    assert "there is no compiler" in err


def test_a_duel_runs_both_as_often_and_neither_always_first():
    calls: list[str] = []
    found = duel(lambda: calls.append("ours"), lambda: calls.append("other"), pairs=4)
    assert calls.count("ours") == calls.count("other") == 5
    assert {calls[i] for i in range(2, 10, 2)} == {"ours", "other"}
    low, high = found["ratio_interval"]
    assert 0 < low <= found["ratio"] <= high


@pytest.fixture
def few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ROWS": 3, "TOKENS": 8, "PAIRS": 2}.items():
        monkeypatch.setattr(experts, name, value)


@pytest.mark.usefixtures("few_tokens")
def test_the_loop_computes_what_grouped_products_compute():
    step = experts._step(4, torch.float32, torch.device("cpu"), experts._grouped)
    ours, other = (run(step.moe, step.x, step.salient) for run in (experts._grouped, experts._loop))
    assert torch.allclose(ours, other, atol=1e-5)


@pytest.mark.usefixtures("few_tokens")
def test_saved_activations_of_experts_do_not_grow_with_their_number():
    few, many = (
        experts.saved_bytes(experts._step(n, torch.bfloat16, torch.device("cpu"), experts._grouped))
        for n in (4, 64)
    )
    assert few["experts"] == many["experts"] > 0
    assert many["router"] > few["router"]
    assert many["cast_copies"] == 16 * few["cast_copies"]


@pytest.mark.usefixtures("few_tokens")
def test_figures_are_json_and_lines():
    (figures,) = measure("experts")
    assert json.loads(json.dumps(figures)) == figures
    said = list(lines(figures))
    assert all(line.startswith("experts") for line in said)
    assert any("64 experts take" in line for line in said)
