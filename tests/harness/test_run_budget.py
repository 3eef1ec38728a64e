"""A run held to a budget: what is predicted for it, what is refused, what fills the rest."""

from pathlib import Path

import pytest

from harness.cards import METHODS
from harness.config import RunRequest, resolve
from harness.errors import UserError
from harness.model import build_task
from harness.run_budget import BudgetRequest, _remedies, hold, predicted_peak
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.runs import small_request


def request(method: str = "lst", *overrides: str) -> RunRequest:
    return small_request(method, "train.epochs=1", *overrides)


def peak(request: RunRequest) -> int:
    config = resolve(request)
    task = build_task(config)
    return predicted_peak(config, task, task.load(config.limit))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("full", ["train.amp=bf16"]),
        pytest.param("mp_ismoe", ["train.grad_accum=3"], marks=pytest.mark.slow),
    ],
)
def test_what_is_predicted_beforehand_is_what_the_run_predicts(
    method: str, settings: list[str], tmp_path: Path
) -> None:
    asked = request(method, *settings)
    record = run(resolve(asked), RunOptions(tmp_path, "off", -1))
    assert record.memory
    assert peak(asked) == record.memory.predicted_train_peak_bytes


def test_what_fits_is_left_as_it_is() -> None:
    held = hold(request(), BudgetRequest("1GiB"))
    assert held.request == request()
    assert held.peak_bytes == peak(request()) <= held.budget_bytes


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    budget = f"{(peak(request('full')) - 1) // 2**10}KiB"
    with pytest.raises(UserError, match="What would fit: ") as refused:
        hold(request("full"), BudgetRequest(budget))
    for remedy in ("--set train.grad_accum=2", "--grad-checkpoint"):
        assert remedy in str(refused.value)


@pytest.mark.parametrize("parts", [1, 5, 16])
def test_every_change_that_is_tried_can_be_run(parts: int) -> None:
    asked = request("full", "train.batch_size=16", f"train.grad_accum={parts}")
    accumulations = [
        resolve(changed).train.grad_accum
        for ladder in _remedies(resolve(asked), asked)
        for _, changed in ladder
    ]
    assert max(accumulations) <= 16 < 2 * max(accumulations)


def test_where_nothing_would_fit_other_methods_are_named() -> None:
    pretrained = RunRequest("linear_probe", "vqa", limit=32)
    with pytest.raises(UserError, match="harness memory table --backbone scenes_vl"):
        hold(pretrained, BudgetRequest("1KiB"))


@pytest.mark.slow
def test_experts_fill_what_the_host_would_need() -> None:
    held = hold(request("mp_ismoe"), BudgetRequest("mp_ismoe@ismoe", "experts"))
    experts = resolve(held.request).method.config.model_dump()["experts"]
    assert experts > resolve(request("mp_ismoe")).method.config.model_dump()["experts"]
    assert held.budget_bytes == peak(request("mp_ismoe@ismoe"))
    assert held.peak_bytes == peak(held.request) <= held.budget_bytes
    more = request("mp_ismoe", f"method.experts={experts + 1}")
    assert peak(more) > held.budget_bytes


@pytest.mark.parametrize(
    "method",
    [
        "adapter",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("lst", "prompt", "mp_ismoe")),
    ],
)
def test_every_method_grows_its_own_as_far_as_the_budget_allows(method: str) -> None:
    growth = METHODS.card(method).grows
    assert growth is not None
    budget = peak(request(method)) * 3 // 2
    held = hold(request(method), BudgetRequest(f"{budget / 2**10}KiB", "auto"))
    assert held.filled == held.request.overrides[-1]
    assert peak(request(method)) < held.peak_bytes == peak(held.request) <= held.budget_bytes
    value = int(held.filled.rpartition("=")[2])
    more = value + growth.step if growth.rising else value - 1
    assert more == 0 or peak(request(method, f"method.{growth.field}={more}")) > held.budget_bytes


@pytest.mark.parametrize(
    ("method", "fill"),
    [("full", "auto"), ("bitfit", "auto"), ("mp_ismoe@gnp_iq", "auto"), ("lst", "reduction")],
)
def test_what_adds_nothing_stays_as_it_is(method: str, fill: str) -> None:
    held = hold(request(method), BudgetRequest("1GiB", fill))
    assert (held.request, held.filled) == (request(method), None)


def test_of_many_methods_one_without_the_number_just_has_to_fit() -> None:
    held = hold(request("lst"), BudgetRequest("1GiB", "experts", of_many=True))
    assert (held.request, held.filled) == (request("lst"), None)
    with pytest.raises(UserError, match=r"no method has a whole number .*'experts'"):
        hold(request("lst"), BudgetRequest("1GiB", "expert", of_many=True))


@pytest.mark.parametrize(("method", "field"), [("lst", "experts"), ("mp_ismoe", "expert")])
def test_only_a_whole_number_of_the_method_can_fill(method: str, field: str) -> None:
    with pytest.raises(UserError, match=f"--fill-budget {field}: method '{method}' has no whole"):
        hold(request(method), BudgetRequest("1GiB", field))


def test_a_budget_is_a_size_or_a_method() -> None:
    with pytest.raises(UserError, match="--budget 'much'"):
        hold(request(), BudgetRequest("much"))
