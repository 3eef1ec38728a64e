"""New rows of images and texts, as a user names them: ``{"image": "a.png", "text": "..."}``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RowError, UserError, did_you_mean, nearest_file
from tasks.base import NEW, Images, Split, SplitData, Texts, Units
from tasks.sources import read_resized

IMAGE, TEXT, TEXT_PAIR = KEYS = ("image", "text", "text_pair")


def read_new_rows(
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    keys: Sequence[str],
    size: tuple[int, int] = (1, 1),
) -> SplitData:
    """Read rows, each distinct image, and text or pair of texts, once.

    Args:
        rows: JSON objects with these keys.
        folder: what relative paths start from.
        keys: some of ``image``, a file, ``text``, and ``text_pair``, its second text.
        size: height and width in pixels to which images of another size are brought; see
            ``tasks.sources.read_resized``.

    Returns:
        Units ``image`` and ``text`` where they are asked for, and the split ``NEW`` without
        targets.

    Raises:
        RowError: a key is unknown or missing, a text is empty, an image is missing or damaged.
    """
    problems = [(n, text) for n, row in enumerate(rows) for text in _wrong_values(row, keys)]
    images = _read_images(rows, folder, size, problems) if IMAGE in keys else {}
    if problems:
        raise RowError(sorted(problems, key=lambda problem: problem[0]))
    units: dict[str, Units] = {}
    split: dict[str, np.ndarray] = {}
    if IMAGE in keys:
        units[IMAGE] = Images(np.stack(list(images.values())))
        split[IMAGE] = _positions([row[IMAGE] for row in rows], list(images))
    if TEXT in keys:
        pair = TEXT_PAIR in keys
        texts = [(row[TEXT], row[TEXT_PAIR]) if pair else row[TEXT] for row in rows]
        distinct = list(dict.fromkeys(texts))
        units[TEXT] = Texts(distinct)
        split[TEXT] = _positions(texts, distinct)
    return SplitData(units=units, splits={NEW: Split(units=split, targets={})})


def _positions(values: Sequence[Any], distinct: Sequence[Any]) -> np.ndarray:
    position = {value: unit for unit, value in enumerate(distinct)}
    return np.asarray([position[value] for value in values], dtype=np.int64)


def _read_images(
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    size: tuple[int, int],
    problems: list[tuple[int, str]],
) -> dict[str, np.ndarray]:
    """Return the images by name; ``problems`` takes in what is wrong with any."""
    images: dict[str, np.ndarray] = {}
    broken: dict[str, str] = {}
    for name in dict.fromkeys(row["image"] for row in rows if _is_text(row.get("image"))):
        try:
            images[name] = read_resized(folder / name, size)
        except UserError as error:
            broken[name] = f"{error}{nearest_file(folder / name)}"
    for number, row in enumerate(rows):
        if _is_text(row.get("image")) and row["image"] in broken:
            problems.append((number, broken[row["image"]]))
    return images


def _wrong_values(row: Mapping[str, Any], keys: Sequence[str]) -> Iterator[str]:
    """Yield one sentence for each key that is unknown, missing or without a usable value."""
    lacking = [key for key in keys if key not in row]
    for key in row:
        if key not in keys:
            hint = did_you_mean(key, lacking) or f" Known: {', '.join(keys)}."
            yield f"unknown key '{key}'.{hint}"
    for key in keys:
        value = row.get(key)
        if key not in row:
            yield f"'{key}' is missing; a row has {' and '.join(keys)}."
        elif not isinstance(value, str):
            yield f"'{key}' must be a string; it is {value!r}."
        elif not value.strip():
            yield f"'{key}' is empty."
        elif not _is_unicode(value):
            yield f"'{key}' holds half of a surrogate pair, which is no character: {value!a}."


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _is_unicode(value)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
