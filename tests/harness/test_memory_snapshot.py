"""The CUDA allocator's history of a step: asked for, written a file a method, and switched off."""

from pathlib import Path
from typing import Any

import pytest
import torch
from memory_models import bias_only

from harness import paper_step, step_measure
from harness.cli import execute
from harness.memory.measure import measure
from harness.memory.snapshot import check_snapshots, write_snapshot
from harness.step_measure import measure_steps, read_document, snapshot_name
from harness.testing.runs import small_step

CPU = torch.device("cpu")
Calls = list[str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stand in for CUDA's allocator; return what it was told, in order."""
    told: Calls = []

    def record(enabled: str | None = "all", **_: Any) -> None:
        told.append("off" if enabled is None else "on")

    def dump(filename: str) -> None:
        told.append("dump")
        Path(filename).write_bytes(b"history")

    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", record)
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", dump)
    return told


def test_the_history_is_that_of_the_step(calls: Calls, tmp_path: Path) -> None:
    write_snapshot(lambda: calls.append("step"), tmp_path / "one.pickle")
    assert calls == ["on", "step", "dump", "off"]
    assert [path.name for path in tmp_path.iterdir()] == ["one.pickle"]
    assert (tmp_path / "one.pickle").read_bytes() == b"history"


def test_a_step_that_fails_switches_it_off_and_leaves_no_file(calls: Calls, tmp_path: Path) -> None:
    def fail() -> None:
        raise torch.OutOfMemoryError("no more")

    with pytest.raises(torch.OutOfMemoryError, match="no more"):
        write_snapshot(fail, tmp_path / "one.pickle")
    assert calls == ["on", "off"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_switches_it_off_too(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(filename: str) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", full)
    with pytest.raises(OSError, match="no space left"):
        write_snapshot(lambda: None, tmp_path / "one.pickle")
    assert calls == ["on", "off"]


def test_every_method_has_a_file_of_its_own(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = measure(bias_only(), prediction=False)
    monkeypatch.setattr(step_measure, "measure", lambda _: report)
    request = small_step("", "t5")
    document = read_document(None, CPU)
    methods = ["full", "nonsense", "lst@published", "lst"]

    def run() -> None:
        measure_steps(request, methods, CPU, document, lambda _: None, tmp_path)

    run()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert [name.rpartition("-")[0] for name in files] == ["full-t5-off", "lst-t5-off"]
    assert calls == 2 * ["on", "dump", "off"]
    run()
    assert len(calls) == 6  # what is there is not made again
    (tmp_path / files[0]).unlink()
    run()
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_steps_of_other_sizes_have_other_files() -> None:
    steps = [small_step("lst", "t5", batch_size=rows) for rows in (2, 3)]
    assert len({snapshot_name(step) for step in steps}) == 2
    assert ":" not in snapshot_name(small_step("peft:IA3", "t5"))


def test_without_cuda_it_is_refused_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def build(*_: Any, **__: Any) -> None:
        raise AssertionError("a model is built")

    monkeypatch.setattr(paper_step, "paper_program", build)
    monkeypatch.setattr(step_measure, "paper_program", build)
    folder = tmp_path / "snapshots"
    words = ["--backbone", "t5-small", "--methods", "lst", "--device", "cpu", "--batch-size", "1"]
    assert execute(["memory", "measure", *words, "--snapshot", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"--snapshot {folder}" in err
    assert "--device cuda" in err
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.model.pick_device", lambda _: torch.device("cuda", 0))
    file = tmp_path / "file"
    file.write_text("")
    words = ["--backbone", "t5-small", "--methods", "lst", "--snapshot", str(file)]
    assert execute(["memory", "measure", *words]) == 2
    assert f"--snapshot {file}: this folder cannot be made" in capsys.readouterr().err


def test_a_cuda_device_gets_its_folder(tmp_path: Path) -> None:
    check_snapshots(tmp_path / "new" / "folder", torch.device("cuda", 0))
    assert (tmp_path / "new" / "folder").is_dir()


@pytest.mark.gpu
def test_on_cuda_the_file_is_one_of_the_viewers(tmp_path: Path) -> None:
    document = read_document(None, torch.device("cuda", 0))
    device = torch.device("cuda", 0)
    measure_steps(small_step("", "t5"), ["lst"], device, document, lambda _: None, tmp_path)
    [file] = tmp_path.iterdir()
    content = file.read_bytes()
    assert b"device_traces" in content
    assert b"train_step" in content
