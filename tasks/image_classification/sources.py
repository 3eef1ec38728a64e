"""Labelled images: drawn, or out of a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.errors import UserError
from tasks.assemble import ImageSource
from tasks.base import Images, Units
from tasks.folder import Lines, Row, layout, refuse
from tasks.folder_source import FolderSource
from tasks.scenes.domains import get_domain
from tasks.scenes.draw import render
from tasks.scenes.scene import IMAGE_SIZE, Scene, draw_scene
from tasks.sources import Fingerprint


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels.

    Attributes:
        labels: int64 [rows], positions among the source's labels.
        images: int64 [rows], the number of the image within its part.
    """

    labels: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: np.ndarray) -> "LabelledImages":
        """Return the rows at these positions (int64)."""
        return LabelledImages(self.labels[rows], self.images[rows])


class LabelSource(ImageSource, Protocol):
    """Where labelled images come from."""

    @property
    def labels(self) -> Sequence[str]:
        """The names of the labels, by position."""

    def rows(self, part: str) -> LabelledImages:
        """Return all images of a part with their labels."""


class ScenesShapes:
    """Drawn scenes of one object, of the domain that no pretraining has seen."""

    revision = "shifted-1"
    parts = ("train", "test")
    labels = get_domain("shifted").shapes
    domain, world_seed = "shifted", 7006
    scenes: Mapping[str, range] = {"train": range(0, 14_000), "test": range(14_000, 18_000)}
    counts: Mapping[str, int] = {"train": 3000, "test": 700}

    @cached_property
    def _scenes(self) -> dict[str, list[Scene]]:
        return {part: self._draw(part) for part in self.parts}

    def _draw(self, part: str) -> list[Scene]:
        drawn: list[Scene] = []
        for number in self.scenes[part]:
            if len(drawn) == self.counts[part]:
                break
            scene = draw_scene(self.domain, self.world_seed, number)
            drawn += [scene] if len(scene.objects) == 1 else []
        return drawn

    def rows(self, part: str) -> LabelledImages:
        """Return all images of a part with their shapes."""
        shapes = [self.labels.index(scene.objects[0].shape) for scene in self._scenes[part]]
        return LabelledImages(np.asarray(shapes, dtype=np.int64), np.arange(len(shapes)))

    def name(self, part: str, number: int) -> str:
        """Return the scene's part and number."""
        return f"{part}/{self._scenes[part][number].index}"

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return the drawn scenes."""
        drawn = np.empty((len(numbers), IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        for row, number in enumerate(numbers.tolist()):
            drawn[row] = render(self._scenes[part][number])
        fingerprint.add(drawn.tobytes())
        return Images(drawn)


LAYOUT = layout('{"image": "a.jpg", "label": "cat"}; a "label_name" may stand beside a number')
EXAMPLE: Mapping[str, Sequence[Mapping[str, Any]]] = {
    name: [{"image": f"{name}/{i}.png", "label": ("cat", "dog")[i % 2]} for i in range(20)]
    for name in ("train", "test")
}
"""The rows of a tiny folder."""


class Labelled(Row):
    """One line: an image and its label, by name or by number and name."""

    image: str
    label: str | int
    label_name: str | None = None

    @property
    def name(self) -> str:
        """The label as it is reported."""
        return self.label_name or str(self.label)


class FolderImages(FolderSource[Labelled]):
    """Labelled images; see ``FolderSource``. Every label must be one of training's, of several."""

    row = Labelled

    def __init__(self, dataset: str, data_dir: Path | None, side: int) -> None:
        super().__init__(dataset, data_dir, side)
        self.labels = tuple(sorted({row.name for row in self.lines["train"].rows}))
        for lines in self.lines.values():
            self._check_labels(lines)

    def images_of(self, row: Labelled) -> Sequence[str]:
        """Return the image's name."""
        return (row.image,)

    def _check_labels(self, lines: Lines[Labelled]) -> None:
        refuse(
            lines.path,
            [
                f"line {number}: label '{row.name}' is none of training's, "
                f"{', '.join(self.labels[:10])}"
                for number, row in enumerate(lines.rows, 1)
                if row.name not in self.labels
            ],
        )
        if len(self.labels) < 2:
            raise UserError(f"'{lines.path}': all images have the label '{self.labels[0]}'.")

    def rows(self, part: str) -> LabelledImages:
        """Return all images of a part with their labels."""
        rows = self.lines[part].rows
        labels = [self.labels.index(row.name) for row in rows]
        return LabelledImages(np.asarray(labels, dtype=np.int64), np.arange(len(rows)))
