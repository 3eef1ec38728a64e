"""Optuna as the keeper of a study: nothing twice, nothing lost."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import proposals as module
from harness.design import Design
from harness.errors import UserError
from harness.proposals import OWNER, Proposals, open_proposals, spread
from harness.study import Cell

AXES = {"a.b": [1, 2], "a.c": ["x", "y"]}


def never(cells: Any) -> bool:
    return False


def opened(output: Path, url: str | None = None, **fields: Any) -> Proposals:
    design = Design.model_validate({"name": "d", "axes": AXES, **fields})
    return open_proposals("study", design, ["maximize"], output, url)


def end(proposals: Proposals, taken: Any, status: str = "done") -> None:
    trial, point = taken
    cell = Cell(point=point, seed=0, status=status)
    proposals.finish(trial, [cell], [0.5] if status == "done" else None)


def take_all(proposals: Proposals) -> list[dict[str, Any]]:
    points = []
    while (taken := proposals.take()) is not None:
        points.append(taken[1])
        end(proposals, taken)
    return points


def test_a_grid_is_taken_once_by_all_who_share_it(tmp_path: Path) -> None:
    ours, theirs = opened(tmp_path), opened(tmp_path)
    ours.begin(again=never)
    theirs.begin(again=never)
    mine = ours.take()
    assert mine is not None
    others = take_all(theirs)
    end(ours, mine)
    assert len(others) == 3
    assert mine[1] not in others
    assert ours.take() is None
    assert ours.finished == ours.wanted == 4
    assert len(ours.cells()) == 4


@given(st.integers(0, 60), st.integers(1, 9))
def test_workers_begin_apart_and_go_on_to_neighbours(count: int, workers: int) -> None:
    order = spread(list(range(count)), workers)
    assert sorted(order) == list(range(count))
    length = max(1, -(-count // workers))
    at_once = [point // length for point in order[: len(range(0, count, length))]]
    assert len(set(at_once)) == len(at_once)
    assert spread(list(range(count)), 1) == list(range(count))
    turns = [order.index(p + 1) - order.index(p) for p in range(count - 1) if (p + 1) % length]
    assert all(1 <= turn <= workers for turn in turns)


def test_what_a_dead_process_left_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = opened(tmp_path)
    dead.begin(again=never)
    left = dead.take()
    assert left is not None
    same_process = opened(tmp_path)
    same_process.begin(again=never)
    assert left[1] not in take_all(same_process)  # its owner lives

    def gone(pid: int) -> None:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(module.psutil, "Process", gone)
    later = opened(tmp_path)
    later.begin(again=never)
    monkeypatch.undo()
    assert take_all(later) == [left[1]]


@pytest.mark.parametrize("is_signed", [True, False])
def test_a_point_that_was_only_half_taken_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_signed: bool
) -> None:
    dead = opened(tmp_path)
    dead.begin(again=never)
    trial = dead.study.ask()
    if is_signed:
        host = module.socket.gethostname()
        trial.set_user_attr(OWNER, f"{host} 0 0.0")  # no process has this number
        trial.suggest_categorical("a.b", (1, 2))
    monkeypatch.setattr(module, "TO_SIGN", timedelta(0))
    later = opened(tmp_path)
    later.begin(again=never)
    points = take_all(later)
    assert sorted(map(str, points)) == sorted(map(str, later.design.points()))


def test_two_processes_may_give_up_the_same_point(tmp_path: Path) -> None:
    proposals = opened(tmp_path)
    proposals.begin(again=never)
    taken = proposals.take()
    assert taken is not None
    proposals.put_back(taken[0])
    proposals.put_back(taken[0])
    take_all(proposals)
    assert proposals.finished == len(proposals.cells()) == 4


def test_a_point_that_was_put_back_waits_again(tmp_path: Path) -> None:
    proposals = opened(tmp_path)
    proposals.begin(again=never)
    taken = proposals.take()
    assert taken is not None
    proposals.put_back(taken[0])
    assert proposals.finished == 0
    assert taken[1] in take_all(proposals)
    assert proposals.finished == 4


def test_only_what_is_wanted_again_is_taken_again(tmp_path: Path) -> None:
    proposals = opened(tmp_path)
    proposals.begin(again=never)
    for status in ("done", "failed", "pruned", "done"):
        taken = proposals.take()
        assert taken is not None
        end(proposals, taken, status)
    again = opened(tmp_path)
    again.begin(again=never)
    assert take_all(again) == []
    again.begin(again=lambda cells: cells[0].status == "failed")
    assert len(take_all(again)) == 1
    assert {cell.status for cell in again.cells()} == {"done", "pruned"}


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_sampler_proposes_as_many_points_as_are_wanted(tmp_path: Path, sampler: str) -> None:
    proposals = opened(tmp_path, sampler=sampler, trials=3)
    proposals.begin(again=never)
    points = take_all(proposals)
    assert proposals.finished >= min(3, len(points))
    assert all(set(point) == set(AXES) for point in points)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_sampler_takes_no_point_twice_and_ends_with_the_last(
    tmp_path: Path, sampler: str
) -> None:
    proposals = opened(tmp_path, sampler=sampler, trials=50)
    proposals.begin(again=never)
    points = take_all(proposals)
    assert sorted(map(str, points)) == sorted(map(str, proposals.design.points()))
    assert proposals.finished == proposals.wanted == 4


def test_an_axis_that_does_not_apply_is_not_proposed(tmp_path: Path) -> None:
    proposals = opened(tmp_path, when={"a.c": {"a.b": 2}})
    proposals.begin(again=never)
    assert sorted(map(str, take_all(proposals))) == sorted(
        map(str, [{"a.b": 1}, {"a.b": 2, "a.c": "x"}, {"a.b": 2, "a.c": "y"}])
    )


def test_a_database_keeps_a_study_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    first = opened(tmp_path, url)
    first.begin(again=never)
    taken = first.take()
    assert taken is not None
    end(first, taken)
    assert opened(tmp_path, url).finished == 1


@pytest.mark.parametrize("url", ["nowhere", "sqlite:////no/such/folder/x.db", "nobase://u:p@h/d"])
def test_a_storage_that_does_not_answer_is_one_message(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"--storage .* cannot be used") as caught:
        opened(tmp_path, url)
    assert "u:p" not in str(caught.value)
