"""``harness memory timeline``: a run's step as a picture, from its Record and its own file."""

import json
from pathlib import Path

import pytest

from harness.cli import execute
from harness.record import Record, RecordStore, file_artifact, write_atomic
from harness.testing.records import make_record, make_timeline


@pytest.fixture
def record(tmp_path: Path) -> Record:
    plain = make_record()
    assert plain.memory
    content = json.dumps(make_timeline(plain.memory)).encode()
    path = write_atomic(tmp_path / "artifacts/run/timeline.json", content)
    found = plain.model_copy(update={"artifacts": {"timeline": file_artifact(path, tmp_path)}})
    RecordStore(tmp_path).put(found)
    return found


def command(record: Record, output: Path, *words: str) -> int:
    return execute(["memory", "timeline", record.run_key[:8], "--output", str(output), *words])


def test_the_picture_is_drawn_and_the_peak_is_told(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(record, tmp_path, "--to", str(tmp_path / "step.png")) == 0
    assert (tmp_path / "step.png").stat().st_size > 0
    assert (tmp_path / "step.svg").stat().st_size > 0
    assert "GiB in the backward phase" in capsys.readouterr().out


def test_json_is_the_timeline(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(record, tmp_path, "--json") == 0
    assert record.memory
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"run": record.run_key, "timeline": make_timeline(record.memory)}


@pytest.mark.parametrize("damage", ["gone", "other", "none"])
def test_a_run_without_its_timeline_is_one_message(
    damage: str, record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "artifacts/run/timeline.json"
    if damage == "gone":
        path.unlink()
    elif damage == "other":
        path.write_text("[]")
    else:
        RecordStore(tmp_path).put(record.model_copy(update={"artifacts": {}}))
    assert command(record, tmp_path) == 2
    assert f"run {record.run_key[:16]}" in capsys.readouterr().err
