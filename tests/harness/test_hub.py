"""Datasets of a hub: pinned, fetched as a folder, and recorded as what they are."""

from pathlib import Path
from typing import Any

import pytest

from harness.cards import TASKS
from harness.config import resolve
from harness.datasets import check_dataset
from harness.errors import UserError
from harness.hub import Pinned, pinned_data
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.runs import small_request

PLACE = Path("hub:someone/captions@0123abc")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Stand in for the hub: a tiny folder; return what was asked for."""
    TASKS.load("image_text_retrieval").write_example("coco-mini", tmp_path / "snapshot")
    asked: list[dict[str, Any]] = []

    def snapshot_download(name: str, **fields: Any) -> str:
        asked.append({"name": name, **fields})
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def test_a_run_on_a_hubs_dataset_records_its_revision(
    fetched: list[dict[str, Any]], tmp_path: Path
) -> None:
    config = resolve(
        small_request(
            "linear_probe",
            "train.epochs=1",
            "task.image_size=64",
            task="image_text_retrieval",
            dataset="coco-mini",
            data_dir=PLACE,
        )
    )
    record = run(config, RunOptions(tmp_path / "runs", "off", -1))
    assert record.status == "done", record.error
    data = record.provenance.data
    assert (data.source, data.revision) == ("hub", "someone/captions@0123abc")
    assert {(a["name"], a["revision"], a["repo_type"]) for a in fetched} == {
        ("someone/captions", "0123abc", "dataset")
    }


def test_it_is_checked_like_a_folder(fetched: list[dict[str, Any]]) -> None:
    assert check_dataset("image_text_retrieval", "coco-mini", PLACE)["dataset"] == "coco-mini"


def test_offline_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="all files of 'someone/captions' at revision 0123abc"):
        check_dataset("image_text_retrieval", "coco-mini", PLACE)


def test_a_revision_must_be_named() -> None:
    assert Pinned.read("a/b") is None
    assert Pinned.read("a@b") is None
    assert pinned_data(Path("data/captions")) is None
    with pytest.raises(UserError, match="is written hub:OWNER/NAME@REVISION"):
        pinned_data(Path("hub:someone/captions"))
