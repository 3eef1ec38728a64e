"""Rows and images out of a folder: what is read, and what is refused."""

import gzip
import io
import json
import multiprocessing
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.cards import TASKS
from harness.cli import execute
from harness.errors import UserError
from tasks.base import Chain, Images
from tasks.folder import DataFolder, Row
from tasks.image_files import WORTH_WORKERS, ImageFile, ImageFiles, ImageSource
from tasks.sources import Fingerprint
from tasks.vqa import VqaConfig
from tasks.vqa.task import OUTSIDE_VOCABULARY, Vqa

FOLDER_TASKS = [
    (name, card.name)
    for name in ("vqa", "gqa", "image_text_retrieval", "grounding")
    for card in TASKS.card(name).datasets
    if card.source == "folder"
]


def png(colour: int, size=(9, 7)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (colour, colour, colour)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(params=["folder", "archive"])
def source(request, tmp_path) -> ImageSource:
    files = {f"sub/{n}.png": png(n) for n in range(5)}
    if request.param == "folder":
        for name, data in files.items():
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return ImageSource(tmp_path / "images")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return ImageSource(tmp_path / "images.zip")


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_images_are_read_by_position_at_one_size(source, cache_bytes):
    files = ImageFiles([ImageFile(source, f"sub/{n}.png") for n in range(5)], (4, 6), cache_bytes)
    for _ in range(2):
        taken = files.take(np.asarray([3, 0, 3]))
        assert taken.shape == (3, 4, 6, 3)
        assert taken[:, 0, 0, 0].tolist() == [3, 0, 3]
    assert "sub/0.png" in source
    assert "0.png" not in source
    assert source.stamp("sub/0.png") != source.stamp("sub/1.png")


@pytest.fixture(params=["folder", "archive"])
def many(request, tmp_path) -> list[ImageFile]:
    """Images of which each has a colour of its own; enough for worker processes."""
    names = [f"{n}.png" for n in range(2 * WORTH_WORKERS)]
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for colour, name in enumerate(names):
            archive.writestr(name, png(colour))
    if request.param == "folder":
        zipfile.ZipFile(tmp_path / "images.zip").extractall(tmp_path / "images")
    place = tmp_path / ("images" if request.param == "folder" else "images.zip")
    source = ImageSource(place)
    return [ImageFile(source, name) for name in names]


@pytest.mark.parametrize("kept", [0, 5, 1000])
def test_images_read_ahead_are_the_same_images(many, kept):
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(many)), 2))
    parts = np.array_split(order, 9)
    files = ImageFiles(many, (4, 6), cache_bytes=kept * 4 * 6 * 3)
    before = torch.get_rng_state()
    for _ in range(2):
        files.read_ahead(parts)
        for part in parts:
            assert files.take(part)[:, 0, 0, 0].tolist() == part.tolist()
    assert torch.equal(torch.get_rng_state(), before)


class WhoDecodes:
    """Stands in for an image: its pixels tell the process that decoded it."""

    def decode(self, size: tuple[int, int]) -> np.ndarray:
        return np.full((*size, 3), os.getpid() % 251, np.uint8)


def test_images_read_ahead_are_decoded_by_other_processes():
    files = ImageFiles([WhoDecodes()] * WORTH_WORKERS, (2, 2))
    units = np.arange(WORTH_WORKERS)
    files.read_ahead([units])
    assert (files.take(units) != os.getpid() % 251).all()
    assert not multiprocessing.active_children()


def test_what_was_not_announced_is_read_in_between(many):
    files = ImageFiles(many, (4, 6))
    first, second = np.arange(70), np.arange(60, 128)
    files.read_ahead([first, second])
    for part in (first, np.asarray([3, 127]), second, first):
        assert files.take(part)[:, 0, 0, 0].tolist() == part.tolist()


@pytest.mark.parametrize("many", ["folder"], indirect=True)
def test_a_broken_image_read_ahead_is_named_when_its_part_is_read(many, tmp_path):
    (tmp_path / "images" / "90.png").write_bytes(b"no image")
    files = ImageFiles(many, (4, 6))
    parts = [np.arange(80), np.arange(80, 128)]
    files.read_ahead(parts)
    assert len(files.take(parts[0])) == 80
    with pytest.raises(UserError, match=r"90\.png' is truncated or damaged \(8 bytes\)"):
        files.take(parts[1])


def test_a_chain_reads_each_of_its_parts_ahead(many):
    chain = Chain([ImageFiles(many[:100], (4, 6)), ImageFiles(many[100:], (4, 6))])
    parts = [np.asarray([127, 0, 100, 99]), np.arange(128)]
    chain.read_ahead(parts)
    for part in parts:
        assert chain.take(part)[:, 0, 0, 0].tolist() == part.tolist()


def test_a_truncated_image_is_named(tmp_path):
    (tmp_path / "cut.png").write_bytes(png(9, (300, 300))[:60])
    files = ImageFiles([ImageFile(ImageSource(tmp_path), "cut.png")], (4, 4))
    with pytest.raises(UserError, match=r"cut\.png' is truncated or damaged \(60 bytes\)"):
        files.take(np.asarray([0]))


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match=r"images\.zip' cannot be read"):
        ImageSource(tmp_path / "images.zip")


def test_a_chain_is_its_parts_one_after_the_other():
    arrays = [np.full((n, 2, 2, 3), value, np.uint8) for n, value in ((2, 1), (0, 5), (3, 7))]
    chain = Chain([Images(array) for array in arrays])
    assert len(chain) == 5
    units = np.asarray([4, 0, 2, 1])
    assert np.array_equal(chain.take(units), np.concatenate(arrays)[units])


class Line(Row):
    image: str
    count: int


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_all_bad_lines_are_reported_together(tmp_path):
    (tmp_path / "images").mkdir()
    write_lines(
        tmp_path / "train.jsonl",
        '{"image": "a.png", "count": 1}',
        '{"imag": "a.png", "count": 1}',
        '{"image": "a.png", "count": "many"}',
        "{broken",
    )
    with pytest.raises(UserError) as raised:
        DataFolder("some", tmp_path).read("train", Line, Fingerprint())
    message = str(raised.value)
    assert "has 3 problems" in message
    assert "line 2: no 'image'; it has imag, count. Did you mean 'imag'?" in message
    assert "line 3: 'count'" in message
    assert "line 4: not a JSON object" in message


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="give --data-dir DIR"):
        DataFolder("some", None)
    with pytest.raises(UserError, match="no such folder"):
        DataFolder("some", tmp_path / "nowhere")
    folder = DataFolder("some", tmp_path)
    with pytest.raises(UserError, match=r"needs train\.jsonl.*holds nothing"):
        folder.read("train", Line, Fingerprint())
    write_lines(tmp_path / "train.jsonl", '{"image": "a.png", "count": 1}')
    with pytest.raises(UserError, match=r"needs the images of train\.jsonl"):
        folder.read("train", Line, Fingerprint())


@pytest.mark.parametrize(("name", "dataset"), FOLDER_TASKS)
def test_an_example_can_be_written_and_read(name, dataset, tmp_path):
    implementation = TASKS.load(name)
    implementation.write_example(dataset, tmp_path)
    assert set(implementation.layout(dataset)) >= {"train.jsonl", "test.jsonl", "images/"}
    data = implementation(TASKS.card(name).config(image_size=16), dataset, tmp_path, 0).load()
    images = data.units["image"].take(np.arange(3))
    assert images.shape == (3, 16, 16, 3)
    names = [set(split.columns["image"]) for split in data.splits.values()]
    assert not names[0] & names[1]
    assert not names[1] & names[2]


@pytest.mark.parametrize(("name", "dataset"), FOLDER_TASKS)
def test_a_row_without_its_image_is_refused(name, dataset, tmp_path):
    TASKS.load(name).write_example(dataset, tmp_path)
    (tmp_path / "images" / "train" / "3.png").unlink()
    with pytest.raises(UserError, match=r"train\.jsonl.*\n.*no image 'train/3\.png'"):
        TASKS.load(name)(TASKS.card(name).config(), dataset, tmp_path, 0).load()


def test_a_repeated_image_is_refused(tmp_path):
    retrieval = TASKS.load("image_text_retrieval")
    retrieval.write_example("coco-mini", tmp_path)
    path = tmp_path / "train.jsonl"
    path.write_text(path.read_text() + path.read_text().partition("\n")[0] + "\n")
    with pytest.raises(UserError, match=r"line 21: 'train/0\.png' stands in line 1 already"):
        retrieval(TASKS.card("image_text_retrieval").config(), "coco-mini", tmp_path, 0)


@pytest.mark.parametrize(
    ("name", "dataset", "field"),
    [("vqa", "daquar", "question_id"), ("grounding", "coco-boxes", "ref_id")],
)
def test_a_repeated_name_of_a_row_is_refused(name, dataset, field, tmp_path):
    TASKS.load(name).write_example(dataset, tmp_path)
    path = tmp_path / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row[field] = min(number, 8)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"line 10: '8' stands in line 9 already"):
        TASKS.load(name)(TASKS.card(name).config(), dataset, tmp_path, 0).load()


def annotated(folder: Path, answers: list[list[str]]) -> Vqa:
    for name in ("train", "val", "test"):
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        lines = []
        for number, given in enumerate(answers):
            (folder / "images" / name / f"{number}.png").write_bytes(png(number))
            row = {"image": f"{name}/{number}.png", "question": "what ?", "answers": given}
            lines.append(json.dumps(row))
        data = gzip.compress(("\n".join(lines) + "\n").encode())
        (folder / f"{name}.jsonl.gz").write_bytes(data)
    return Vqa(VqaConfig(min_answer_count=1, image_size=8), "vqav2", folder, 0)


def test_annotators_give_soft_targets_and_the_official_score(tmp_path):
    asked = annotated(
        tmp_path, [["a cup"] * 8 + ["mug"] * 2, ["Dog"] * 10, ["1"] * 4 + ["one"] * 6]
    )
    assert asked.answers == ("1", "cup", "dog")
    split = asked.load().splits["val"]
    assert split.targets["answer"].tolist() == [1, 2, 0]
    assert split.targets["scores"][:, 0].tolist() == [1, 1, 1]
    right = np.asarray([1, 2, 0])
    assert asked.metrics(right, split)["vqa_accuracy"] == 1
    assert asked.metrics(np.asarray([0, 2, 0]), split)["vqa_accuracy"] == pytest.approx(2 / 3)


def test_an_answer_outside_the_vocabulary_stays_in_the_denominator(tmp_path):
    TASKS.load("vqa").write_example("daquar", tmp_path)
    path = tmp_path / "test.jsonl"
    path.write_text(path.read_text().replace('"answer": "no"', '"answer": "unheard"'))
    asked = Vqa(VqaConfig(image_size=8), "daquar", tmp_path, 0)
    data = asked.load()
    split = data.splits["test"]
    outside = split.targets["answer"] == OUTSIDE_VOCABULARY
    assert outside.sum() == 6
    guesses = np.where(outside, 0, split.targets["answer"])
    assert asked.metrics(guesses, split)["accuracy"] == pytest.approx(1 - outside.mean())
    assert data.notices[-1].startswith(f"6 of {len(split)} test answers are outside")


def test_a_vocabulary_of_rare_answers_alone_is_refused(tmp_path):
    TASKS.load("vqa").write_example("daquar", tmp_path)
    with pytest.raises(UserError, match=r"min_answer_count=99.*occurs 18 times"):
        Vqa(VqaConfig(min_answer_count=99), "daquar", tmp_path, 0).load()


def test_the_layout_is_shown_and_an_example_is_checked(tmp_path, capsys):
    folder = str(tmp_path / "example")
    assert execute(["data", "show", "vqa", "--dataset", "daquar", "--example", folder]) == 0
    shown = capsys.readouterr().out
    assert "train.jsonl: one line each" in shown
    check = ["data", "check", "vqa", "--dataset", "daquar", "--data-dir", folder]
    assert execute([*check, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"]["test"] == 24
    assert facts["distinct"]["image"] == 24
    (tmp_path / "example" / "images" / "test" / "1.png").write_bytes(png(1)[:50])
    assert execute(check) == 2
    assert "test/1.png' is truncated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "vqaa"], "Did you mean 'vqa'"),
        (["show", "vqa", "--dataset", "daqar"], "Did you mean 'daquar'"),
        (["show", "vqa", "--dataset", "easy-vqa", "--example", "x"], "no dataset from a folder"),
        (["check", "sst2"], "give --data-dir DIR with train.tsv, dev.tsv"),
    ],
)
def test_a_wrong_request_gets_one_message(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert execute(["data", *words]) == 2
    assert message in capsys.readouterr().err
