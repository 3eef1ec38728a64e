"""Image files, in folders or zip archives, decoded when they are read.

Nothing is decoded before it is wanted, so that a dataset of any size can be read; where the order
of reading is known, worker processes decode ahead.
"""

import os
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from harness.errors import UserError

CACHE_BYTES = 2**30
"""Decoded images that one dataset keeps; past it, they are decoded again."""

WORTH_WORKERS = 64
"""Fewer images than these are decoded before worker processes would have begun."""

MAX_WORKERS = 8


class ImageSource:
    """Image files by name, in a folder or in a zip archive.

    Args:
        place: the folder or the archive.

    Raises:
        UserError: it cannot be opened.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._archives: dict[int, zipfile.ZipFile] = {}
        if place.is_file():
            self._open()

    @property
    def _archive(self) -> zipfile.ZipFile | None:
        """The archive, opened once a process: two that share it would move each other's place."""
        return (self._archives.get(os.getpid()) or self._open()) if self._archives else None

    def _open(self) -> zipfile.ZipFile:
        try:
            archive = zipfile.ZipFile(self.place)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"The archive '{self.place}' cannot be read: {error}.") from None
        self._archives[os.getpid()] = archive
        return archive

    @cached_property
    def _sizes(self) -> Mapping[str, str]:
        """What tells files apart without reading them: size, and in an archive the checksum."""
        if archive := self._archive:
            infos = archive.infolist()
            return {i.filename: f"{i.file_size}:{i.CRC}" for i in infos if not i.is_dir()}
        files = (path for path in self.place.rglob("*") if path.is_file())
        return {path.relative_to(self.place).as_posix(): str(path.stat().st_size) for path in files}

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    def stamp(self, name: str) -> str:
        """Return the name with what tells the file from another of that name."""
        return f"{name}:{self._sizes[name]}"

    def where(self, name: str) -> str:
        """Return how a message names a file."""
        return f"{self.place / name}" if not self._archives else f"{self.place}:{name}"

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            UserError: it cannot be read.
        """
        try:
            if archive := self._archive:
                return archive.read(name)
            return (self.place / name).read_bytes()
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"Cannot read the image '{self.where(name)}': {error}.") from None


@dataclass(frozen=True)
class ImageFile:
    """One image of a source."""

    source: ImageSource
    name: str

    def decode(self, size: tuple[int, int]) -> np.ndarray:
        """Return the image at ``size`` (height, width), uint8 [H, W, 3], RGB.

        It is resized by bicubic interpolation, its sides each by its own factor.

        Raises:
            UserError: it is missing or damaged.
        """
        data = self.source.read(self.name)
        try:
            with Image.open(BytesIO(data)) as image:
                image.draft("RGB", (size[1], size[0]))  # a JPEG is decoded no larger than needed
                pixels = image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            raise UserError(
                f"The image '{self.source.where(self.name)}' is truncated or damaged "
                f"({len(data)} bytes). Nothing was skipped or replaced."
            ) from None
        return np.asarray(pixels)


class ImageFiles:
    """Images that are decoded when they are read, and ahead of that by worker processes.

    Args:
        files: the images, by position.
        size: height and width of what ``take`` returns.
        cache_bytes: decoded images that are kept in memory.
    """

    def __init__(
        self, files: Sequence[ImageFile], size: tuple[int, int], cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.files = files
        self.size = size
        self._room = cache_bytes // (3 * size[0] * size[1])
        self._kept: dict[int, np.ndarray] = {}
        self._parts: deque[np.ndarray] = deque()
        self._decoded: Iterator[Mapping[int, np.ndarray | UserError]] = iter(())

    def __len__(self) -> int:
        return len(self.files)

    def read_ahead(self, parts: Sequence[np.ndarray]) -> None:
        """Begin to decode what ``take`` will be asked for, one part a call; see ``Units``."""
        self._parts.clear()
        self._decoded = iter(())  # ends the workers of an earlier call
        missing = self._missing(parts)
        if sum(map(len, missing)) >= WORTH_WORKERS:
            self._parts.extend(parts)
            self._decoded = iter(_loader(self.files, self.size, missing))

    def _missing(self, parts: Sequence[np.ndarray]) -> list[list[int]]:
        """Return for each part the images that will not be kept from before it."""
        kept, missing = set(self._kept), []
        for part in parts:
            wanted = [unit for unit in dict.fromkeys(part.tolist()) if unit not in kept]
            kept.update(wanted[: max(0, self._room - len(kept))])
            missing.append(wanted)
        return missing

    def take(self, units: np.ndarray) -> np.ndarray:
        """Return uint8 [len(units), H, W, 3].

        Raises:
            UserError: an image is missing or damaged.
        """
        decoded: Mapping[int, np.ndarray | UserError] = {}
        if self._parts and np.array_equal(self._parts[0], units):
            self._parts.popleft()
            decoded = next(self._decoded)
            if not self._parts:
                self._decoded = iter(())  # its workers end
        images = np.empty((len(units), *self.size, 3), dtype=np.uint8)
        for row, unit in enumerate(units.tolist()):
            images[row] = self._image(unit, decoded.get(unit))
        return images

    def _image(self, unit: int, decoded: np.ndarray | UserError | None) -> np.ndarray:
        if (kept := self._kept.get(unit)) is not None:
            return kept
        if isinstance(decoded, UserError):
            raise decoded
        image = self.files[unit].decode(self.size) if decoded is None else decoded
        if len(self._kept) < self._room:
            self._kept[unit] = image
        return image


class _Decoding(Dataset[tuple[int, np.ndarray | UserError]]):
    """What a worker process does."""

    def __init__(self, files: Sequence[ImageFile], size: tuple[int, int]) -> None:
        self.files = files
        self.size = size

    def __getitem__(self, unit: int) -> tuple[int, np.ndarray | UserError]:
        try:
            return unit, self.files[unit].decode(self.size)
        except UserError as error:  # raised where the image is read
            return unit, error


def _loader(
    files: Sequence[ImageFile], size: tuple[int, int], parts: Sequence[list[int]]
) -> DataLoader[tuple[int, np.ndarray | UserError]]:
    """Return a loader that yields the decoded images of each part, by position."""
    return DataLoader(
        _Decoding(files, size),
        batch_sampler=parts,
        collate_fn=dict,
        num_workers=min(MAX_WORKERS, os.cpu_count() or 1),
        generator=torch.Generator(),  # it would draw from the run's otherwise
    )
