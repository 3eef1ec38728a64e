"""New rows of an image and a text: what is read, and everything that may be wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.errors import RowError
from tasks.base import NEW, SplitData
from tasks.rows import IMAGE, TEXT, TEXT_PAIR, read_new_rows

SIZE = (6, 8)  # height and width


def pixels(height: int = 6, width: int = 8, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def read(folder: Path, *rows: dict) -> SplitData:
    return read_new_rows(rows, folder, (IMAGE, TEXT), SIZE)


def problems(folder: Path, *rows: dict) -> list[tuple[int, str]]:
    with pytest.raises(RowError) as caught:
        read(folder, *rows)
    return list(caught.value.problems)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(pixels(seed=0)).save(tmp_path / "a.png")
    Image.fromarray(pixels(seed=1)).save(tmp_path / "b.png")
    return tmp_path


def test_each_image_and_text_is_read_once(folder):
    asked = [("a.png", "red?"), ("b.png", "blue?"), (str(folder / "a.png"), "red?")]
    rows = [{"image": image, "text": text} for image, text in (*asked, asked[0])]
    data = read(folder, *rows)
    split = data.splits[NEW]
    assert split.units["image"].tolist() == [0, 1, 2, 0]
    assert split.units["text"].tolist() == [0, 1, 0, 0]
    assert not split.targets
    images = data.units["image"].take(split.units["image"])
    assert np.array_equal(images, np.stack([pixels(seed=seed) for seed in (0, 1, 0, 0)]))
    assert data.units["text"].take(split.units["text"]) == [row["text"] for row in rows]


@pytest.mark.parametrize(("height", "width"), [(12, 16), (3, 4), (30, 7)])
def test_an_image_of_another_size_is_brought_to_the_datasets(height, width, folder):
    halves = np.zeros((height, width, 3), dtype=np.uint8)
    halves[:, width // 2 :] = 200
    Image.fromarray(halves).save(folder / "halves.png")
    [image] = read(folder, {"image": "halves.png", "text": "?"}).units["image"].array
    assert image.shape == (*SIZE, 3)
    assert image[:, 0].max() == 0
    assert image[:, -1].min() == 200


def test_a_photo_that_lies_on_its_side_is_turned_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the right side of the pixels is up
    lying = pixels(8, 6)
    Image.fromarray(lying).save(folder / "photo.png", exif=exif)
    [image] = read(folder, {"image": "photo.png", "text": "?"}).units["image"].array
    assert np.array_equal(image, np.rot90(lying, -1))


def test_grey_and_transparent_images_have_three_channels(folder):
    Image.fromarray(pixels()[..., 0]).save(folder / "grey.png")
    Image.fromarray(np.dstack([pixels(), pixels()[..., 0]])).save(folder / "glass.png")
    rows = [{"image": name, "text": "?"} for name in ("grey.png", "glass.png")]
    grey, glass = read(folder, *rows).units["image"].array
    assert np.array_equal(grey, np.repeat(pixels()[..., :1], 3, axis=2))
    assert np.array_equal(glass, pixels())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "?"}, ["'image' is missing; a row has image and text."]),
        ({}, ["'image' is missing", "'text' is missing"]),
        ({"image": "a.png", "text": " "}, ["'text' is empty."]),
        ({"image": "", "text": "?"}, ["'image' is empty."]),
        ({"image": "a.png", "text": 5}, ["'text' must be a string; it is 5."]),
        ({"image": ["a.png"], "text": "?"}, ["'image' must be a string"]),
        ({"image": "a.png", "txet": "?"}, ["'txet'. Did you mean 'text'?", "'text' is missing"]),
        ({"image": "a.png", "text": "\ud800"}, ["'text' holds half of a surrogate pair"]),
        ({"image": "\udc80.png", "text": "?"}, ["'image' holds half of a surrogate pair"]),
        ({"image": "a\0.png", "text": "?"}, ["null byte"]),
        ({"image": "a" * 300, "text": "?"}, ["too long"]),
        ({"image": "aa.png", "text": "?"}, ["aa.png': No such file", "Did you mean"]),
        ({"image": "nowhere/a.png", "text": "?"}, ["No such file"]),
        ({"image": ".", "text": "?"}, ["Is a directory"]),
    ],
    ids=str,
)
def test_a_wrong_row_is_named_with_the_rule(row, expected, folder):
    good = {"image": "a.png", "text": "?"}
    found = problems(folder, good, row)
    assert {number for number, _ in found} == {1}
    text = " ".join(sentence for _, sentence in found)
    assert all(part in text for part in expected), text


def test_damaged_images_are_named_with_their_file(folder):
    whole = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:-30])
    (folder / "flipped.png").write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    (folder / "notes.png").write_text("no image")
    names = ["cut.png", "flipped.png", "notes.png"]
    found = problems(folder, *({"image": name, "text": "?"} for name in names))
    assert [number for number, _ in found] == [0, 1, 2]
    for name, (_, text) in zip(names, found, strict=True):
        assert f"{folder / name}' is truncated or damaged, or no image" in text


def test_all_problems_of_all_rows_come_together_in_their_order(folder):
    rows = [{"image": "gone.png"}, {"image": "a.png", "text": ""}, {"image": "gone.png", "text": 1}]
    assert [number for number, _ in problems(folder, *rows)] == [0, 0, 1, 2, 2]


def test_pairs_of_texts_are_units_of_their_own():
    rows = [{"text": "a", "text_pair": "b"}, {"text": "a", "text_pair": "c"}] * 2
    data = read_new_rows(rows, Path(), (TEXT, TEXT_PAIR))
    assert data.units["text"].take(np.asarray([0, 1])) == [("a", "b"), ("a", "c")]
    assert data.splits[NEW].units["text"].tolist() == [0, 1, 0, 1]
    with pytest.raises(RowError, match="'text_pair' is missing; a row has text and text_pair"):
        read_new_rows([{"text": "a"}], Path(), (TEXT, TEXT_PAIR))
    with pytest.raises(RowError, match=r"unknown key 'image'\. Known: text\.$"):
        read_new_rows([{"text": "a", "image": "b.png"}], Path(), (TEXT,))


def test_a_key_that_a_row_has_is_not_what_another_was_to_be(folder):
    row = {"image": "a.png", "text": "hi", "text_pair": "b"}
    assert problems(folder, row) == [(0, "unknown key 'text_pair'. Known: image, text.")]
    [(_, unknown), _] = problems(folder, {"image": "a.png", "txt": "hi"})
    assert unknown == "unknown key 'txt'. Did you mean 'text'?"
