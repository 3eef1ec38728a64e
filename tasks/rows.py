"""New rows of an image and a text, as a user names them: ``{"image": "a.png", "text": "..."}``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RowError, UserError, did_you_mean, nearest_file
from tasks.base import NEW, Images, Split, SplitData, Texts
from tasks.sources import read_resized

KEYS = ("image", "text")


def read_image_text_rows(
    rows: Sequence[Mapping[str, Any]], folder: Path, size: tuple[int, int]
) -> SplitData:
    """Read rows, each distinct image and text once.

    Args:
        rows: JSON objects with the keys ``image``, a file, and ``text``.
        folder: what relative paths start from.
        size: height and width in pixels to which images of another size are brought; see
            ``tasks.sources.read_resized``.

    Returns:
        Units ``image`` and ``text``, and the split ``NEW`` without targets.

    Raises:
        RowError: a key is unknown or missing, a text is empty, an image is missing or damaged.
    """
    problems = [(n, text) for n, row in enumerate(rows) for text in _wrong_values(row)]
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
    if problems:
        raise RowError(sorted(problems, key=lambda problem: problem[0]))
    image_unit = {name: unit for unit, name in enumerate(images)}
    texts = list(dict.fromkeys(row["text"] for row in rows))
    text_unit = {text: unit for unit, text in enumerate(texts)}
    units = {
        "image": np.asarray([image_unit[row["image"]] for row in rows], dtype=np.int64),
        "text": np.asarray([text_unit[row["text"]] for row in rows], dtype=np.int64),
    }
    return SplitData(
        units={"image": Images(np.stack(list(images.values()))), "text": Texts(texts)},
        splits={NEW: Split(units=units, targets={})},
    )


def _wrong_values(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence for each key that is unknown, missing or without a usable value."""
    for key in row:
        if key not in KEYS:
            yield f"unknown key '{key}'.{did_you_mean(key, KEYS)}"
    for key in KEYS:
        value = row.get(key)
        if key not in row:
            yield f"'{key}' is missing; a row has {' and '.join(KEYS)}."
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
