"""Steps that are really run: what a cell holds, and the file that goes on where it stopped."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import step_measure
from harness.cli import execute
from harness.errors import UserError
from harness.step_measure import measure_step, measure_steps, read_document, write_document
from harness.testing.runs import small_step
from reports.measured_steps import load_steps

CPU = torch.device("cpu")


def test_a_cell_holds_what_the_allocator_the_tensors_and_the_prediction_say() -> None:
    cell = measure_step(small_step("unipt", "t5"), CPU)
    assert cell["status"] == "done"
    assert cell["predicted_peak_bytes"] == cell["traced_peak_bytes"]
    assert 0 <= cell["peak_bytes"] - cell["traced_peak_bytes"] <= 64
    assert sum(cell["at_peak_bytes"].values()) == cell["peak_bytes"]
    assert cell["step_seconds"] > 0


def test_what_is_impossible_or_too_large_is_a_cell_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_step(small_step("nonsense", "t5"), CPU)["status"] == "impossible"

    def too_large(*_: Any) -> None:
        raise torch.OutOfMemoryError("all of it\nand more")

    monkeypatch.setattr(step_measure, "measure", too_large)
    cell = measure_step(small_step("lst", "t5"), CPU)
    assert (cell["status"], cell["reason"]) == ("oom", "all of it")


@pytest.mark.parametrize(
    ("message", "status", "reason"),
    [
        ("DefaultCPUAllocator: can't allocate memory: 9 bytes", "oom", "DefaultCPUAllocator"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when", "oom", "CUDA error"),
        ("a shape is wrong", "failed", "RuntimeError: a shape is wrong"),
    ],
)
def test_an_error_is_a_cell_and_the_others_go_on(
    message: str, status: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(step_measure, "measure", fail)
    cell = measure_step(small_step("lst", "t5"), CPU)
    assert cell["status"] == status
    assert cell["reason"].startswith(reason)


def test_a_file_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "steps.json"
    asked: list[str] = []

    def cell(request: Any, *_: Any) -> dict[str, Any]:
        asked.append(request.method)
        return {"method": request.method}

    monkeypatch.setattr(step_measure, "measure_step", cell)
    request = small_step("", "t5")
    for methods in (["full", "lst"], ["full", "lst", "unipt"]):
        document = read_document(path, CPU)
        measure_steps(request, methods, CPU, document, lambda found: write_document(path, found))
    measure_steps(replace(request, amp="bf16"), ["full"], CPU, document, lambda _: None)
    assert asked == ["full", "lst", "unipt", "full"]
    assert len(load_steps(path)["cells"]) == 3


def test_a_file_of_another_device_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    write_document(path, {**read_document(None, CPU), "device": "another"})
    with pytest.raises(UserError, match="it holds steps of another"):
        read_document(path, CPU)


def test_a_folder_is_no_file_to_save_in(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this is a folder; name a file in it"):
        read_document(tmp_path, CPU)
    assert read_document(tmp_path / "new" / "steps.json", CPU)["cells"] == {}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 9, "cells": {}}'])
def test_what_is_no_such_file_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"steps\.json"):
        load_steps(path)


def test_the_report_shows_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "steps.json"
    document = read_document(None, CPU)
    done = measure_step(small_step("lst", "t5"), CPU)
    failed = {**done, "method": "full", "status": "oom", "reason": "no"}
    write_document(path, {**document, "cells": {"one": done, "two": failed}})
    assert execute(["report", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "+0.00 %" in shown.replace("-0.00", "+0.00")
    assert "oom" in shown
    assert execute(["report", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"].keys() == {"one", "two"}
