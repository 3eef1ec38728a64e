"""Images and their captions: drawn, or out of a folder."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from pydantic import Field

from tasks.base import Images, Units
from tasks.folder import Row, layout, repeated
from tasks.folder_source import FolderSource
from tasks.retrieval.pairs import Pairs, empty_captions
from tasks.scenes.draw import render
from tasks.scenes.language import captions
from tasks.scenes.scene import IMAGE_SIZE, Scene, draw_scene, scene_generator
from tasks.sources import Fingerprint


class ScenesCaptions:
    """Drawn scenes of two objects or more, half of whose words are new to the bundled model.

    A scene of one object has a caption that fits many scenes, so that no model could tell them.
    """

    revision = "mixed-1"
    frames = 1
    parts = ("train", "test")
    domain, world_seed, stream = "mixed", 7002, 21
    object_counts = (0.0, 0.4, 0.35, 0.25)
    captions_per_scene = 2
    scenes: Mapping[str, range] = {"train": range(0, 3000), "test": range(3000, 3500)}

    @cached_property
    def _scenes(self) -> dict[str, list[Scene]]:
        return {
            part: [
                draw_scene(self.domain, self.world_seed, number, self.object_counts)
                for number in numbers
            ]
            for part, numbers in self.scenes.items()
        }

    def pairs(self, part: str) -> Pairs:
        """Return all pairs of a part."""
        texts: list[str] = []
        for scene in self._scenes[part]:
            generator = scene_generator(self.domain, self.world_seed, scene.index, self.stream)
            texts += captions(scene, generator, self.captions_per_scene)
        return Pairs(texts, np.arange(len(texts)) // self.captions_per_scene)

    def name(self, part: str, number: int) -> str:
        """Return the scene's part and number."""
        return f"{part}/{self._scenes[part][number].index}"

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return the drawn scenes."""
        drawn = np.empty((len(numbers), IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        for row, number in enumerate(numbers):
            drawn[row] = render(self._scenes[part][number])
        fingerprint.add(drawn.tobytes())
        return Images(drawn)


LAYOUT = layout('{"image": "a.jpg", "captions": ["a cup on a table", "the red cup"]}')
EXAMPLE = {
    name: [
        {"image": f"{name}/{i}.png", "captions": [f"photo {i} of {name}", f"number {i} , {name}"]}
        for i in range(20)
    ]
    for name in ("train", "test")
}
"""The rows of a tiny folder."""


class Captioned(Row):
    """One line: an image and its captions."""

    image: str
    captions: tuple[str, ...] = Field(min_length=1)


class FolderCaptions(FolderSource[Captioned]):
    """Photos and captions; see ``FolderSource``."""

    row = Captioned
    frames = 1

    def images_of(self, row: Captioned) -> Sequence[str]:
        """Return the image's name."""
        return (row.image,)

    def problems(self, rows: Sequence[Captioned]) -> Sequence[str]:
        """Return which images are repeated, and which captions are empty."""
        captions = [row.captions for row in rows]
        return [*repeated([row.image for row in rows]), *empty_captions(captions)]

    def pairs(self, part: str) -> Pairs:
        """Return all pairs of a part, a line's captions one after the other."""
        rows = self.lines[part].rows
        texts = [caption for row in rows for caption in row.captions]
        counts = [len(row.captions) for row in rows]
        return Pairs(texts, np.repeat(np.arange(len(rows)), counts))
