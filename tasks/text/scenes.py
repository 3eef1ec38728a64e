"""Labelled sentences about drawn scenes, of the domain that no pretraining has seen."""

from collections.abc import Mapping
from functools import cache
from typing import ClassVar

import numpy as np

from tasks.scenes.scene import draw_scene, scene_generator
from tasks.scenes.sentences import SENTENCES
from tasks.sources import Fingerprint
from tasks.text.base import TextTask
from tasks.text.rows import TextRows

DOMAIN, WORLD_SEED, STREAM = "shifted", 7001, 30
SCENES = {"train": range(0, 6000), "dev": range(6000, 7000)}


class ScenesTextTask(TextTask):
    """One labelled sentence, or pair, a scene.

    Attributes:
        kind: which of ``SENTENCES``.
    """

    kind: ClassVar[str]

    def read(self, fingerprint: Fingerprint) -> Mapping[str, TextRows]:
        """Draw the rows; see ``TextTask.read``."""
        files = {name: _draw(self.kind, name) for name in SCENES}
        for rows in files.values():
            fingerprint.add(repr(rows.texts).encode())
            fingerprint.add(rows.labels.tobytes())
        return files


@cache
def _draw(kind: str, name: str) -> TextRows:
    stream = STREAM + list(SENTENCES).index(kind)
    rows = [
        SENTENCES[kind](
            draw_scene(DOMAIN, WORLD_SEED, number),
            scene_generator(DOMAIN, WORLD_SEED, number, stream),
        )
        for number in SCENES[name]
    ]
    labels = np.asarray([label for _, label in rows])
    return TextRows([text for text, _ in rows], labels, [f"{name}:{i}" for i in SCENES[name]])
