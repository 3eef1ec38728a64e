"""The committed Records: whole, finished, of clean checkouts, and free of anybody's paths."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import reports
from harness.record import Record, RecordStore

MEASURED = Path(reports.__file__).parent / "measured"
DEVICES = [path for path in sorted(MEASURED.iterdir()) if path.is_dir()]


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("device", DEVICES, ids=lambda path: path.name)
def test_they_are_finished_runs_of_a_clean_checkout(device: Path) -> None:
    files, records = list((device / "records").glob("*.json")), list(RecordStore(device))
    assert len(records) == len(files) > 0
    for record in records:
        assert isinstance(record, Record)
        assert record.status == "done"
        assert record.provenance.commit
        assert not record.provenance.dirty
        assert not record.provenance.limited


@pytest.mark.parametrize("device", DEVICES, ids=lambda path: path.name)
def test_they_name_no_place_on_the_machine_that_made_them(device: Path) -> None:
    for file in (device / "records").glob("*.json"):
        held = texts(json.loads(file.read_text(encoding="utf-8")))
        assert not [text for text in held if Path(text).is_absolute()], file.name


@pytest.mark.parametrize("device", DEVICES, ids=lambda path: path.name)
def test_their_folder_is_explained(device: Path) -> None:
    assert f"| `{device.name}` |" in (MEASURED / "README.md").read_text(encoding="utf-8")
