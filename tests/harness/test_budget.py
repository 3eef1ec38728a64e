"""Budgets, and the largest setting within one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.budget import largest_fitting, read_budget
from harness.errors import UserError


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("8GiB", 8 * 2**30), ("512 MiB", 2**29), ("0.5gib", 2**29), (" 3KiB ", 3 * 2**10)],
)
def test_a_budget_is_a_number_and_a_unit(text, nbytes):
    assert read_budget(text) == nbytes


@pytest.mark.parametrize("text", ["8", "8GB", "GiB", "-1GiB", "1e3MiB", "", "8 G i B"])
def test_what_is_no_budget_is_refused_with_an_example(text):
    with pytest.raises(UserError, match="such as 8GiB"):
        read_budget(text)


def test_nothing_is_no_budget():
    with pytest.raises(UserError, match="more than nothing"):
        read_budget("0GiB")


@given(
    fixed=st.integers(0, 1000),
    slope=st.integers(1, 50),
    bend=st.integers(0, 3),
    budget=st.integers(0, 20_000),
    smallest=st.integers(1, 5),
    step=st.integers(1, 8),
)
def test_the_value_found_fits_and_the_next_does_not(fixed, slope, bend, budget, smallest, step):
    def peak(value: int) -> int:
        return fixed + slope * value + bend * value * value // 16

    found = largest_fitting(peak, budget, smallest=smallest, step=step)
    if peak(smallest) > budget:
        assert found is None
        return
    assert found is not None
    value, nbytes = found
    assert (value - smallest) % step == 0
    assert nbytes == peak(value) <= budget < peak(value + step)


def test_a_value_that_is_refused_does_not_fit():
    asked: list[int] = []

    def peak(value: int) -> int:
        asked.append(value)
        if value > 5:
            raise UserError("more than there are")
        return value

    assert largest_fitting(peak, 4_000) == (5, 5)
    assert len(asked) <= 16


def test_a_setting_without_effect_has_no_largest_value():
    with pytest.raises(UserError, match=r"train\.lr: 17 needs no more memory than 1"):
        largest_fitting(lambda _: 100, 4_000, name="train.lr")


def test_memory_that_bends_upwards_needs_few_predictions():
    asked: list[int] = []

    def peak(value: int) -> int:
        asked.append(value)
        return 10**6 + 1_000 * value + 300 * value**2

    found = largest_fitting(peak, 3 * 10**9)
    assert found is not None
    assert peak(found[0]) <= 3 * 10**9 < peak(found[0] + 1)
    assert len(asked) <= 16


def test_linear_memory_needs_few_predictions():
    asked: list[int] = []

    def peak(value: int) -> int:
        asked.append(value)
        return 10**9 + 12_345_678 * value

    found = largest_fitting(peak, 9 * 10**9)
    assert found is not None
    assert found[0] == 8 * 10**9 // 12_345_678
    assert len(asked) <= 5
