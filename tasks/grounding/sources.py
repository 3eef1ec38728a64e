"""Referring expressions with their boxes: drawn, or out of a folder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from tasks.assemble import ImageSource
from tasks.base import Images, Units
from tasks.folder import Row, layout, repeated
from tasks.folder_source import FolderSource
from tasks.scenes.domains import get_domain
from tasks.scenes.draw import render
from tasks.scenes.scene import IMAGE_SIZE, Scene, draw_scene, scene_generator
from tasks.scenes.vqa import refer
from tasks.sources import Fingerprint

_SLACK = 1.0  # pixels by which a box may pass its image's edge: annotations are rounded


@dataclass(frozen=True)
class Expressions:
    """Some expressions, and the box that each refers to.

    Attributes:
        texts: one a row.
        boxes: float32 [rows, 4]: left, top, right, bottom, as shares of the image's sides.
        images: int64 [rows], the number of the image within its part.
    """

    texts: Sequence[str]
    boxes: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: np.ndarray) -> "Expressions":
        """Return the expressions at these positions (int64)."""
        return Expressions([self.texts[i] for i in rows], self.boxes[rows], self.images[rows])


class ExpressionSource(ImageSource, Protocol):
    """Where expressions come from."""

    def expressions(self, part: str) -> Expressions:
        """Return all expressions of a part."""


class ScenesBoxes:
    """Objects of drawn scenes, some of whose words are new to the bundled model.

    Every object that words alone can tell from the others of its scene has one expression.
    """

    revision = "mixed-1"
    parts = ("train", "test")
    domain, world_seed, stream = "mixed", 7004, 22
    object_counts = (0.0, 0.7, 0.3, 0.0)
    scenes: Mapping[str, range] = {"train": range(0, 4000), "test": range(4000, 4400)}

    def expressions(self, part: str) -> Expressions:
        """Return all expressions of a part."""
        rows = [row for number in self.scenes[part] for row in self._of_scene(part, number)]
        return Expressions(
            [text for text, _, _ in rows],
            np.asarray([box for _, box, _ in rows], dtype=np.float32) / IMAGE_SIZE,
            np.asarray([number for _, _, number in rows], dtype=np.int64),
        )

    def _of_scene(
        self, part: str, number: int
    ) -> Iterator[tuple[str, tuple[float, float, float, float], int]]:
        scene = self._scene(number)
        generator = scene_generator(self.domain, self.world_seed, number, self.stream)
        for thing in scene.objects:
            text = refer(get_domain(self.domain), scene, thing, generator)
            if text is not None:
                yield text, thing.box, number - self.scenes[part].start

    def name(self, part: str, number: int) -> str:
        """Return the scene's part and number."""
        return f"{part}/{self.scenes[part][number]}"

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return the drawn scenes."""
        drawn = np.empty((len(numbers), IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        for row, number in enumerate(numbers.tolist()):
            drawn[row] = render(self._scene(self.scenes[part][number]))
        fingerprint.add(drawn.tobytes())
        return Images(drawn)

    def _scene(self, number: int) -> Scene:
        return draw_scene(self.domain, self.world_seed, number, self.object_counts)


LAYOUT = layout(
    '{"image": "a.jpg", "width": 640, "height": 480, "expression": "the left cup", '
    '"bbox": [left, top, width, height] in pixels}'
)
EXAMPLE: Mapping[str, Sequence[Mapping[str, Any]]] = {
    name: [
        {
            "image": f"{name}/{i}.png",
            "width": 40,
            "height": 30,
            "expression": f"thing {i}",
            "bbox": [i, i, 10, 8],
        }
        for i in range(20)
    ]
    for name in ("train", "test")
}
"""The rows of a tiny folder."""


class Expression(Row):
    """One line: an expression and the box that it refers to, in pixels of an image.

    Attributes:
        ref_id: its name, which no other line may have; None where it has none.
    """

    image: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    expression: str = Field(min_length=1)
    bbox: tuple[float, float, float, float]
    ref_id: str | int | None = None

    @property
    def share(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom as shares of the image's sides."""
        left, top, width, height = self.bbox
        return (
            left / self.width,
            top / self.height,
            (left + width) / self.width,
            (top + height) / self.height,
        )

    def problem(self) -> str | None:
        """Return what is wrong with the box, None where nothing is."""
        left, top, width, height = self.bbox
        if width <= 0 or height <= 0:
            return f"box {list(self.bbox)} has no area"
        right, bottom = left + width, top + height
        if min(left, top) < -_SLACK or right > self.width + _SLACK or bottom > self.height + _SLACK:
            return f"box {list(self.bbox)} lies outside its image of {self.width} x {self.height}"
        return None


class FolderBoxes(FolderSource[Expression]):
    """Expressions and photos; see ``FolderSource``."""

    row = Expression

    def images_of(self, row: Expression) -> Sequence[str]:
        """Return the image's name."""
        return (row.image,)

    def problems(self, rows: Sequence[Expression]) -> Sequence[str]:
        """Return what is wrong with the boxes, and which names are repeated."""
        found = ((number, row.problem()) for number, row in enumerate(rows, 1))
        wrong = [f"line {number}: {problem}" for number, problem in found if problem]
        return [*wrong, *repeated([row.ref_id for row in rows])]

    def expressions(self, part: str) -> Expressions:
        """Return all expressions of a part."""
        rows = self.lines[part].rows
        number_of = {name: number for number, name in enumerate(self._names[part])}
        return Expressions(
            [row.expression for row in rows],
            np.clip(np.asarray([row.share for row in rows], dtype=np.float32), 0, 1),
            np.asarray([number_of[row.image] for row in rows], dtype=np.int64),
        )

    @cached_property
    def _names(self) -> Mapping[str, Sequence[str]]:
        """The distinct images of every part: several rows may be about one."""
        return {
            part: sorted({row.image for row in lines.rows}) for part, lines in self.lines.items()
        }

    def name(self, part: str, number: int) -> str:
        """Return the image's file name."""
        return self._names[part][number]

    def files(self, part: str, number: int) -> Sequence[str]:
        """Return the image's file name."""
        return (self.name(part, number),)
