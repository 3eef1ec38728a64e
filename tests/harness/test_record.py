import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.record import (
    Record,
    RecordStore,
    check_writable,
    content_hash,
    load_record,
    write_atomic,
)
from harness.testing.records import make_record


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = make_record()
    store = RecordStore(tmp_path)
    store.put(record)
    assert store.get(record.run_key) == record
    assert list(store) == [record]


def test_the_schema_number_is_written_as_schema() -> None:
    assert json.loads(make_record().to_json())["schema"] == 1


def test_categories_must_sum_to_the_peak(tmp_path: Path) -> None:
    record = make_record()
    assert record.memory
    memory = record.memory.model_copy(update={"train_peak_bytes": 1})
    with pytest.raises(ValueError, match="categories sum"):
        RecordStore(tmp_path).put(record.model_copy(update={"memory": memory}))


def test_the_core_leaves_out_times_and_places() -> None:
    record = make_record()
    elsewhere = record.provenance.model_copy(
        update={"started_at": "2020-01-01", "commit": "x", "dirty": True, "device": "other"}
    )
    assert record.model_copy(update={"provenance": elsewhere}).core() == record.core()
    assert record.model_copy(update={"seed": record.seed + 1}).core() != record.core()


def test_a_damaged_record_names_file_and_field(tmp_path: Path) -> None:
    content = json.loads(make_record().to_json())
    content["seed"] = "many"
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"damaged\.json.*seed"):
        load_record(path)


def test_records_are_found_by_prefix(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    record = make_record()
    store.put(record)
    assert store.find(record.run_key[:6]) == record
    with pytest.raises(UserError, match=r"No run in .* begins with 'zzz'"):
        store.find("zzz")


def test_two_processes_may_look_at_once_whether_a_folder_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def write_and_lose(path: Path, content: bytes) -> int:
        written = write(path, content)
        path.unlink()  # as the other process does
        return written

    monkeypatch.setattr(Path, "write_bytes", write_and_lose)
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_atomic_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_who_may_read_a_written_file_is_what_the_umask_says(
    umask: int, mode: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        path = write_atomic(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomic(tmp_path / "file", b"old")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_the_content_hash_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert content_hash(value) == content_hash(backwards)


def test_records_are_immutable() -> None:
    record: Record = make_record()
    with pytest.raises(ValueError, match="frozen"):
        record.seed = 3  # type: ignore[misc]
