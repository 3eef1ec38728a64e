"""Rows about images, out of a folder: what every kind of them shares."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar, cast

import numpy as np

from tasks.base import Units
from tasks.folder import DataFolder, Lines, Row, missing_images, refuse
from tasks.image_files import ImageFile, ImageFiles
from tasks.sources import Fingerprint

R = TypeVar("R", bound=Row)


class FolderSource(ABC, Generic[R]):
    """Rows and images as ``tasks.folder`` describes them; images become squares.

    Args:
        dataset: the dataset's name.
        data_dir: the folder.
        side: of the squares, in pixels.
        images_dir: another folder with the images, None for the same.

    Raises:
        UserError: the folder, a file or an image is missing, or a line is wrong.

    Attributes:
        row: what a line must hold.
        lines: by part, in the order of reading.
        revision: a hash of all rows.
    """

    row: ClassVar[type[Row]]

    def __init__(
        self, dataset: str, data_dir: Path | None, side: int, images_dir: Path | None = None
    ) -> None:
        self.size = (side, side)
        folder, content = DataFolder(dataset, data_dir, images_dir), Fingerprint()
        self.lines: Mapping[str, Lines[R]] = {
            part: self._read(folder, name, content) for part, name in folder.parts().items()
        }
        self.revision = f"sha256:{content.hexdigest()[:16]}"

    def _read(self, folder: DataFolder, name: str, content: Fingerprint) -> Lines[R]:
        lines = cast(Lines[R], folder.read(name, self.row, content))
        missing = missing_images(lines, [self.images_of(row) for row in lines.rows])
        refuse(lines.path, [*missing, *self.problems(lines.rows)])
        return lines

    @abstractmethod
    def images_of(self, row: R) -> Sequence[str]:
        """Return the names of the images of a row: one, or a video's frames."""

    def problems(self, rows: Sequence[R]) -> Sequence[str]:  # noqa: ARG002 - many have none
        """Return a sentence for everything that is wrong with a file's rows."""
        return ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts whose files there are."""
        return tuple(self.lines)

    def name(self, part: str, number: int) -> str:
        """Return how reports name an image or video of a part."""
        return self.images_of(self.lines[part].rows[number])[0]

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return images by number, decoded when they are read; see ``ImageSource.images``."""
        source = self.lines[part].images
        names = [n for number in numbers.tolist() for n in self.files(part, number)]
        for name in names:
            fingerprint.add(source.stamp(name).encode())
        return ImageFiles([ImageFile(source, name) for name in names], self.size)

    def files(self, part: str, number: int) -> Sequence[str]:
        """Return the image files of an image or video of a part."""
        return self.images_of(self.lines[part].rows[number])
