"""Data that the user has in a folder: rows as JSON lines, images as files or in zip archives.

The layout is the same for every dataset. ``NAME.jsonl`` (or ``.jsonl.gz``, or ``NAME_captions``)
holds one JSON object a line for each of ``train``, ``val`` and ``test``; without ``val`` a part of
the training images is set aside; ``dev`` may stand for ``test``. Images are named relative to
``NAME_images/`` or ``NAME_images.zip``, else to ``images/`` or ``images.zip``.
"""

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError, check_data_folder, did_you_mean
from tasks.image_files import ImageSource
from tasks.sources import Fingerprint

_SHOWN = 10


class Row(BaseModel):
    """One line of a file. Fields that no dataset reads are let through."""

    model_config = ConfigDict(frozen=True, extra="ignore")


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Lines(Generic[R]):
    """The rows of one file.

    Attributes:
        path: the file.
        rows: one a line.
        images: where its images are.
    """

    path: Path
    rows: Sequence[R]
    images: ImageSource

    def where(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self.path.name}:{row + 1}"


class DataFolder:
    """A folder given by ``--data-dir``.

    Args:
        dataset: the dataset's name, for messages.
        path: the folder, None where none was given.
        images: another folder with the images, None for the same.

    Raises:
        UserError: no folder was given, or it is none.
    """

    def __init__(self, dataset: str, path: Path | None, images: Path | None = None) -> None:
        if path is None:
            raise UserError(
                f"Dataset '{dataset}' is read from a folder: give --data-dir DIR. "
                f"`harness data show` prints what it must hold."
            )
        check_data_folder(path)
        self.dataset = dataset
        self.path = path
        self.image_path = images or path

    def parts(self) -> dict[str, str]:
        """Return the name of each part's file; ``val`` is left out where there is none."""
        names = {"train": "train", "test": "test" if self._find("test") else "dev"}
        if self._find("val"):
            names["val"] = "val"
        return names

    def read(self, name: str, row: type[R], fingerprint: Fingerprint) -> Lines[R]:
        """Return the rows of ``NAME.jsonl``.

        Args:
            name: of the file.
            row: what a line must hold.
            fingerprint: takes in the file's bytes.

        Raises:
            UserError: the file is missing or damaged; with all bad lines.
        """
        path = self._find(name)
        if path is None:
            wanted = "test" if name == "dev" else name
            held = sorted(p.name for p in self.path.iterdir())[:_SHOWN]
            raise UserError(
                f"Dataset '{self.dataset}' needs {wanted}.jsonl (or {wanted}.jsonl.gz) in "
                f"'{self.path}', which holds {', '.join(held) or 'nothing'}. "
                f"`harness data show` prints the layout."
            )
        data = read_bytes(path)
        fingerprint.add(data)
        problems: list[str] = []
        rows: list[R] = []
        for number, line in enumerate(data.splitlines(), 1):
            try:
                rows.append(row.model_validate_json(line))
            except ValidationError as error:
                problems += [f"line {number}: {text}" for text in _sentences(error)]
        refuse(path, problems)
        if not rows:
            raise UserError(f"'{path}' has no rows.")
        return Lines(path, rows, self._images(name))

    def _find(self, name: str) -> Path | None:
        stems = (name, f"{name}_captions")
        paths = [self.path / f"{stem}{end}" for stem in stems for end in (".jsonl", ".jsonl.gz")]
        return next((path for path in paths if path.is_file()), None)

    def _images(self, name: str) -> ImageSource:
        stems = (f"{name}_images", f"{name}_frames", "images", "frames")
        places = [self.image_path / place for stem in stems for place in (stem, f"{stem}.zip")]
        place = next((place for place in places if place.exists()), None)
        if place is None:
            raise UserError(
                f"Dataset '{self.dataset}' needs the images of {name}.jsonl in "
                f"'{self.image_path}': "
                f"{', '.join(place.name for place in places[:2])}, images or images.zip."
            )
        return ImageSource(place)


def layout(line: str) -> dict[str, str]:
    """Return the files of a folder whose every line is like ``line``, with what they hold."""
    return {
        "train.jsonl": f"one line each: {line}",
        "val.jsonl": "the same for validation; without it, training images are set aside",
        "test.jsonl": "the same for test; dev.jsonl may stand for it",
        "images/": "the image files; or images.zip, or train_images/ and test_images/, or their "
        ".zip",
    }


def write_example(folder: Path, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write ``NAME.jsonl`` files and the images that they name, small ones of one colour.

    Args:
        folder: is made where it is not there.
        rows: by name of the file; ``image`` or ``frames`` name images.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        for line in lines:
            for image in line.get("frames", [line.get("image")]):
                colour = hashlib.sha256(image.encode()).digest()[:3]
                path = images / image
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 30), tuple(colour)).save(path)


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise a ``UserError`` with the problems of a file, where there are some."""
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        counted = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"'{path}' has {counted}:\n{shown}{more}")


def repeated(names: Sequence[str | int | None]) -> list[str]:
    """Return a sentence for every line whose name is that of an earlier line.

    Args:
        names: of the lines; None where one has none.
    """
    seen: dict[str | int, int] = {}
    problems = []
    for number, name in enumerate(names, 1):
        if name is None:
            continue
        if name in seen:
            problems.append(f"line {number}: '{name}' stands in line {seen[name]} already")
        seen.setdefault(name, number)
    return problems


def missing_images(lines: Lines[R], names: Sequence[Sequence[str]]) -> list[str]:
    """Return a sentence for every image that a row names and the source lacks.

    Args:
        lines: the rows.
        names: the images that each names.
    """
    return [
        f"line {number}: there is no image '{name}' in '{lines.images.place}'"
        for number, row in enumerate(names, 1)
        for name in row
        if name not in lines.images
    ]


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, which may be compressed by gzip.

    Raises:
        UserError: it cannot be read.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError) as error:
        raise UserError(f"'{path}' cannot be read: {error}.") from None


def _sentences(error: ValidationError) -> list[str]:
    """Return what is wrong with a line."""
    found = []
    for item in error.errors():
        field = ".".join(map(str, item["loc"]))
        if item["type"] == "missing":
            held = list(item["input"]) if isinstance(item["input"], dict) else []
            found.append(
                f"no '{field}'; it has {', '.join(held) or 'nothing'}.{did_you_mean(field, held)}"
            )
        elif item["type"].startswith("json"):
            found.append("not a JSON object")
        else:
            found.append(f"'{field}': {item['msg']}, not {item['input']!r}")
    return found
