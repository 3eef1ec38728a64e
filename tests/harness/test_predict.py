"""``predict``: a trained adaptation on new inputs."""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import easy_vqa
import pytest
import torch

from harness.adaptation import load_adaptation, save_adaptation
from harness.adaptation_folder import find_adaptation
from harness.cli import execute
from harness.config import RunRequest, resolve
from harness.errors import UserError
from harness.model import AdaptedModel, build_model, build_task

IMAGE = easy_vqa.get_test_image_paths()[0]


class Saved(NamedTuple):
    """An output folder with one adaptation, and where this lies."""

    output: Path
    folder: Path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """An adaptation as it is before the first step: commands treat it as any other."""
    config = resolve(RunRequest(method="lst", task="vqa"))
    task = build_task(config)
    torch.manual_seed(0)
    built = build_model(config, task, torch.device("cpu"))
    output = tmp_path_factory.mktemp("saved")
    folder = output / "artifacts" / "0123456789abcdef" / "adaptation"
    tensors = built.model.fitted_tensors()
    save_adaptation(folder, config, built.weights_hash, task.state(), tensors)
    return Saved(output, folder)


@pytest.fixture
def harness(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call ``harness predict`` in this process; return exit code, stdout and stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = execute(["predict", *map(str, words), "--device", "cpu"])
        return code, *capsys.readouterr()

    return call


def write_rows(path: Path, rows: Sequence[dict[str, Any] | str]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_dataset_is_not_needed(saved, harness, monkeypatch, tmp_path):
    shutil.copy(IMAGE, tmp_path / "photo.png")
    words = (saved.folder, "--image", tmp_path / "photo.png", "--text", "is it red?", "--top", 2)
    code, out, err = harness(*words)
    assert (code, err) == (0, "")
    shares = [float(line.partition(" %  ")[0]) for line in out.splitlines()]
    assert len(shares) == 2
    assert 100 >= shares[0] >= shares[1] >= 0
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    assert harness(*words) == (0, out, "")


def test_json_is_one_document_and_cut_texts_are_counted(saved, harness, tmp_path):
    shutil.copy(IMAGE, tmp_path / "a.png")
    texts = ["is it red? " * 50, "is it red?", "what shape? " * 60]
    rows = [{"image": "a.png", "text": text} for text in texts]
    file = write_rows(tmp_path / "rows.jsonl", ["", *rows])
    code, out, err = harness(saved.output, "--input", file, "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["task"], document["method"], document["seed"]) == ("vqa", "lst", 0)
    assert document["adaptation"] == str(saved.folder)
    assert [len(row["answers"]) for row in document["rows"]] == [3, 3, 3]
    assert document["cut_texts"] == 2
    assert err.startswith("Warning: 2 of 3 texts are longer than the backbone reads")
    assert err.endswith(f"{file}, lines 2 and 4.\n")


def test_paths_start_from_the_file_or_from_a_folder(saved, harness, tmp_path):
    (tmp_path / "images").mkdir()
    shutil.copy(IMAGE, tmp_path / "images" / "a.png")
    file = write_rows(tmp_path / "rows.jsonl", [{"image": "a.png", "text": "is it red?"}])
    code, _, err = harness(saved.folder, "--input", file)
    assert code == 2
    assert str(tmp_path / "a.png") in err
    code, out, _ = harness(saved.folder, "--input", file, "--data-dir", tmp_path / "images")
    assert code == 0
    assert json.loads(out)["image"] == "a.png"


def test_an_adaptation_is_named_in_several_ways(saved):
    folder = saved.folder
    key = folder.parent.name
    nowhere = Path("nowhere")
    for typed in (folder, folder / "config.json", folder / "tensors.safetensors", folder.parent):
        assert find_adaptation(str(typed), nowhere) == folder
    assert find_adaptation(str(saved.output), nowhere) == folder
    for typed in (key, key[:4], key + 48 * "0"):
        assert find_adaptation(typed, saved.output) == folder


def test_of_several_adaptations_one_must_be_named(saved, tmp_path):
    for key in ("aa00", "aa11"):
        shutil.copytree(saved.folder, tmp_path / "artifacts" / key / "adaptation")
    (tmp_path / "artifacts" / "aa11" / "adaptation" / "config.json").write_text("{}")
    for typed in (str(tmp_path), "aa"):
        with pytest.raises(UserError) as caught:
            find_adaptation(typed, tmp_path)
        message = str(caught.value)
        assert f"'{typed}' stands for 2 adaptations" in message
        assert "aa00/adaptation: lst on vqa (easy-vqa), seed 0" in message
        assert "aa11/adaptation: cannot be read" in message
    assert find_adaptation("aa1", tmp_path).parent.name == "aa11"


def test_all_wrong_lines_are_reported_together(saved, harness, tmp_path):
    good = {"image": str(IMAGE), "text": "is it red?"}
    rows = [
        good,
        '{"image": a.png}',
        {**good, "question": "?"},
        "[1]",
        {**good, "image": "gone.png"},
        *[{**good, "text": ""}] * 6,
    ]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    code, out, err = harness(saved.folder, "--input", file)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[0] == "Error: 5 problems:"
    expected = [
        ("line 2", 'no valid JSON (Expecting value, column 11): {"image": a.png}'),
        ("line 3", "unknown key 'question'. Known: image, text."),
        ("line 4", "a row is one JSON object, and this is none: [1]"),
        ("line 5", f"'{tmp_path / 'gone.png'}': No such file"),
        ("lines 6, 7, 8 and 3 more", "'text' is empty."),
    ]
    for line, (place, text) in zip(lines[1:], expected, strict=True):
        assert f"{file}, {place}: " in line
        assert text in line


def test_lines_of_which_none_is_a_row(saved, harness, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", ["image,text", "a.png,is it red?"])
    code, _, err = harness(saved.folder, "--input", file)
    assert code == 2
    assert "2 problems" in err
    assert "line 2: no valid JSON" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["nothing to answer", "--image FILE and --text TEXT"]),
        (["--image", "a.png"], ["--image: 'text' is missing", "a.png': No such file"]),
        (["--text", "?"], ["'image' is missing"]),
        (["--input", "r.jsonl", "--text", "?"], ["--input r.jsonl and --text exclude each other"]),
        (["--input", "gone.jsonl"], ["--input gone.jsonl: cannot be read (No such file"]),
        (["--input", IMAGE], ["no text in UTF-8"]),
        (["--text", "?", "--data-dir", "d"], ["--data-dir d goes with --input"]),
        (
            ["--image", IMAGE, "--text", "?", "--top", "0"],
            ["'--top'", "equal to 1"],
        ),
        (
            ["--image", IMAGE, "--text", "?", "--batch-size", "x"],
            ["'--batch-size'", "integer"],
        ),
        (["--image", IMAGE, "--text", "?", "--device", "gpu"], ["--device 'gpu'", "cuda"]),
        (["--image", IMAGE, "--text", "?", "--device", "cuda:99"], ["cuda:99", "cpu"]),
        (["--image", IMAGE, "--text", "?", "--weights", "random"], ["with hash", "--weights"]),
        (["--image", IMAGE, "--text", "?", "--weights", "no/where"], ["no/where"]),
    ],
    ids=lambda words: " ".join(map(str, words))[-40:],
)
def test_a_wrong_request_is_one_message(words, expected, saved, capsys):
    code = execute(["predict", str(saved.folder), *map(str, words)])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    assert all(part in err for part in expected), err


def test_a_path_that_is_no_adaptation_names_the_nearest(saved, harness, tmp_path):
    words = ["--image", IMAGE, "--text", "?", "--output", saved.output]
    typed = str(saved.folder)[:-2]
    code, _, err = harness(typed, *words)
    assert code == 2
    assert f"'{typed}' holds no adaptation" in err
    assert f"Did you mean '{saved.folder}'?" in err
    key = saved.folder.parent.name
    assert f"Did you mean '{key}'?" in harness("x" + key[1:], *words)[2]
    assert f"Known: {key}." in harness("zzzz", *words)[2]
    assert "`harness run` makes them" in harness("zzzz", *words[:-1], tmp_path)[2]
    assert f"'{tmp_path}' holds no adaptation" in harness(tmp_path, *words)[2]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: flip(folder / "tensors.safetensors"), "is damaged: its sha256 should be"),
        (lambda folder: (folder / "tensors.safetensors").unlink(), "tensors.safetensors cannot be"),
        (lambda folder: edit(folder, task={}), "to task 'vqa' ('answers')"),
        (lambda folder: edit(folder, task={"answers": ["no"]}), "differ in ['head.layers.3.bias',"),
        (lambda folder: edit(folder, weights_hash=None), "it lacks 'weights_hash'"),
        (lambda folder: edit(folder, run=[]), "is no description of an adaptation"),
        (lambda folder: (folder / "config.json").write_text("{"), "is no description"),
        (lambda folder: edit(folder, run={"method": {"name": "lts"}}), "Did you mean 'lst'?"),
    ],
    ids=["flipped", "missing", "task", "answers", "hash", "list", "no JSON", "unknown method"],
)
def test_a_damaged_adaptation_is_refused(damage, expected, saved, harness, tmp_path):
    folder = tmp_path / "adaptation"
    shutil.copytree(saved.folder, folder)
    damage(folder)
    code, out, err = harness(folder, "--image", IMAGE, "--text", "?")
    assert (code, out) == (2, "")
    assert expected in err


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(folder: Path, **changes: Any) -> None:
    """Change parts of a description; None takes one out."""
    path = folder / "config.json"
    parts = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in parts.items() if v is not None}))


def test_another_revision_is_a_warning(saved, tmp_path, caplog):
    shutil.copytree(saved.folder, tmp_path / "old")
    run_config = json.loads((saved.folder / "config.json").read_text())["run"]
    edit(tmp_path / "old", run={**run_config, "task": {**run_config["task"], "revision": 99}})
    load_adaptation(tmp_path / "old", device="cpu")
    assert "with revision 99 of task 'vqa'; this is revision" in caplog.text


def test_a_task_that_answers_no_rows_names_those_that_do(saved, harness, monkeypatch):
    monkeypatch.setattr("harness.predict.restore_task", lambda saved: SimpleNamespace())
    code, _, err = harness(saved.folder, "--image", IMAGE, "--text", "?")
    assert code == 2
    assert "'vqa', which cannot answer new rows; those that can: " in err
    assert err.rstrip(".\n").endswith("vqa")


def test_too_many_rows_at_once_for_the_device(saved, harness, monkeypatch):
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(AdaptedModel, "forward", full)
    code, out, err = harness(saved.folder, "--image", IMAGE, "--text", "?")
    assert (code, out) == (2, "")
    assert "give a smaller --batch-size" in err
