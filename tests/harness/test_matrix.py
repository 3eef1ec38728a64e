"""A matrix of runs: what stands is taken over, what fails stops nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import matrix
from harness.config import RunConfig, resolve
from harness.dispatch import Ended
from harness.errors import UserError
from harness.groups import load_groups
from harness.matrix import Made, run_matrix
from harness.matrix_view import MatrixView
from harness.processor import cpu_name
from harness.record import Record, RecordStore
from harness.run_options import RunOptions
from harness.testing.records import make_provenance, make_record
from harness.testing.runs import small_request


def config(seed: int) -> RunConfig:
    return resolve(small_request("lst", seed=seed, device="cpu"))


def record(of: RunConfig, **changes: Any) -> Record:
    origin = make_provenance().model_copy(update={"device": cpu_name()})
    return make_record("lst", of.seed, config=of.resolved(), provenance=origin, **changes)


@pytest.fixture
def made_by_workers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let runs end without being made: seed 1 cannot begin, seed 2 runs out of memory."""
    seeds: list[int] = []

    def run_all(configs: Sequence[RunConfig], *_: Any) -> Iterator[Ended]:
        for job, one in enumerate(configs):
            seeds.append(one.seed)
            if one.seed == 1:
                yield Ended(job, None, "data are missing", 2)
            elif one.seed == 2:
                yield Ended(job, record(one, status="oom", error="no memory"))
            else:
                yield Ended(job, record(one))

    monkeypatch.setattr(matrix, "run_all", run_all)
    return seeds


def made(output: Path, *seeds: int, **fields: Any) -> list[Made]:
    options = RunOptions(output, "off", -1, **fields)
    return run_matrix([config(seed) for seed in seeds], 2, options, MatrixView(-1))


def test_every_run_has_an_outcome_in_its_place(tmp_path: Path, made_by_workers: list[int]) -> None:
    found = made(tmp_path, 0, 1, 2, 3)
    assert [one.config.seed for one in found] == [0, 1, 2, 3]
    assert [one.record and one.record.status for one in found] == ["done", None, "oom", "done"]
    assert (found[1].error, found[1].exit_code) == ("data are missing", 2)


def test_after_ctrl_c_the_first_that_had_not_begun_stands_for_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_all(configs: Sequence[RunConfig], *_: Any) -> Iterator[Ended]:
        yield Ended(0, record(configs[0]))  # it ended well while Ctrl-C came

    monkeypatch.setattr(matrix, "run_all", run_all)
    found = made(tmp_path, 0, 1, 2)
    assert [(one.config.seed, one.exit_code) for one in found] == [(0, 0), (1, 130)]


def test_what_stands_is_not_begun(tmp_path: Path, made_by_workers: list[int]) -> None:
    store = RecordStore(tmp_path)
    store.put(record(config(0)))
    store.put(record(config(2), status="diverged", score=0.1))
    found = made(tmp_path, 0, 2, 3)
    assert made_by_workers == [2, 3]
    assert [one.config.seed for one in found] == [0, 2, 3]
    made(tmp_path, 0, 2, rerun="never")
    assert made_by_workers == [2, 3]
    made(tmp_path, 0, 2, rerun="always")
    assert made_by_workers == [2, 3, 0, 2]


def test_a_damaged_record_costs_its_own_run_alone(
    tmp_path: Path, made_by_workers: list[int]
) -> None:
    path = RecordStore(tmp_path).put(record(config(0)))
    path.with_name("0000000000000000.json").write_text("{")
    made(tmp_path, 0)
    assert made_by_workers == []


def test_a_comparison_is_a_group_of_its_runs(tmp_path: Path, made_by_workers: list[int]) -> None:
    made(tmp_path, 0, 1, 3)
    (group,) = load_groups(tmp_path)
    assert set(group.cells.values()) == {"lst on vqa"}
    assert len(group.cells) == 2
    made(tmp_path, 0, 1, 3)
    assert [again.name for again in load_groups(tmp_path)] == [group.name]


def test_a_wrong_uri_is_refused_before_anything_is_run(
    tmp_path: Path, made_by_workers: list[int]
) -> None:
    options = RunOptions(tmp_path, "./mlruns", -1)
    with pytest.raises(UserError, match="no place for MLflow"):
        run_matrix([config(0)], 1, options, MatrixView(-1))
    assert made_by_workers == []


def test_a_device_that_is_not_there_is_refused_before_anything_is_run(
    tmp_path: Path, made_by_workers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "may_have_gpu", lambda: False)
    RecordStore(tmp_path).put(record(config(0)))
    elsewhere = resolve(small_request("lst", device="cuda:99"))
    with pytest.raises(UserError, match="cuda:99: this machine has no such device"):
        run_matrix([elsewhere], 1, RunOptions(tmp_path, "off", -1), MatrixView(-1))
    assert made_by_workers == []


def test_where_a_gpu_may_be_the_run_finds_the_device_out(
    tmp_path: Path, made_by_workers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "may_have_gpu", lambda: True)
    RecordStore(tmp_path).put(record(config(0)))
    elsewhere = resolve(small_request("lst", device="cuda"))
    run_matrix([elsewhere], 1, RunOptions(tmp_path, "off", -1), MatrixView(-1))
    assert made_by_workers == [0]


def test_lines_tell_how_runs_end(
    tmp_path: Path, made_by_workers: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    options = RunOptions(tmp_path, "off", 0)
    run_matrix([config(seed) for seed in (0, 1, 2)], 1, options, MatrixView(0))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[1/3] lst on vqa, seed 0: vqa_accuracy 92.0 % (test), peak")
    assert lines[1] == "[2/3] lst on vqa, seed 1: could not be run: data are missing"
    assert lines[2] == "[3/3] lst on vqa, seed 2: oom: no memory"
