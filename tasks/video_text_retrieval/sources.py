"""Videos as frames, and their captions: drawn, or out of a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from harness.errors import UserError
from tasks.base import Images, Units
from tasks.folder import Row, layout, repeated
from tasks.folder_source import FolderSource
from tasks.retrieval.pairs import Pairs, empty_captions
from tasks.scenes.clips import FRAMES, Clip, draw_clip, render_clip
from tasks.sources import Fingerprint


class ScenesClips:
    """Drawn clips in which one shape moves, with words that are new to the bundled model."""

    revision = "mixed-1"
    frames = FRAMES
    parts = ("train", "test")
    domain, world_seed = "mixed", 7003
    clips: Mapping[str, range] = {"train": range(0, 1500), "test": range(1500, 1800)}

    def __init__(self) -> None:
        self._clips: dict[str, list[Clip]] = {
            part: [draw_clip(self.domain, self.world_seed, number) for number in numbers]
            for part, numbers in self.clips.items()
        }

    def pairs(self, part: str) -> Pairs:
        """Return all pairs of a part, one a clip."""
        clips = self._clips[part]
        return Pairs([clip.caption for clip in clips], np.arange(len(clips)))

    def name(self, part: str, number: int) -> str:
        """Return the clip's part and number."""
        return f"{part}/{self.clips[part][number]}"

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return the frames of the drawn clips."""
        drawn = np.concatenate([render_clip(self._clips[part][number]) for number in numbers])
        fingerprint.add(drawn.tobytes())
        return Images(drawn)


LAYOUT = layout(
    '{"video": "v1", "frames": ["v1/0.jpg", "v1/1.jpg"], "captions": ["a dog runs"]}; '
    '"caption" may stand for one of them'
)
EXAMPLE = {
    name: [
        {
            "video": f"{name}{i}",
            "frames": [f"{name}{i}/{frame}.png" for frame in range(2)],
            "captions": [f"video {i} of {name}"],
        }
        for i in range(20)
    ]
    for name in ("train", "test")
}
"""The rows of a tiny folder."""


class CaptionedVideo(Row):
    """One line: a video's frames in the order of time, and its captions."""

    video: str
    frames: tuple[str, ...] = Field(min_length=1)
    captions: tuple[str, ...] = ()
    caption: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """All captions."""
        return self.captions if self.caption is None else (*self.captions, self.caption)


class FolderVideos(FolderSource[CaptionedVideo]):
    """Frames and captions; see ``FolderSource``. Every video must have as many frames."""

    row = CaptionedVideo

    def __init__(self, dataset: str, data_dir: Path | None, side: int) -> None:
        super().__init__(dataset, data_dir, side)
        counts = {len(row.frames) for lines in self.lines.values() for row in lines.rows}
        if len(counts) > 1:
            raise UserError(
                f"Dataset '{dataset}': every video must have as many frames; found "
                f"{', '.join(map(str, sorted(counts)))}."
            )
        (self.frames,) = counts

    def images_of(self, row: CaptionedVideo) -> Sequence[str]:
        """Return the names of the frames."""
        return row.frames

    def problems(self, rows: Sequence[CaptionedVideo]) -> Sequence[str]:
        """Return which videos are repeated, and which captions are empty."""
        return [
            *repeated([row.video for row in rows]),
            *empty_captions([row.texts for row in rows]),
        ]

    def pairs(self, part: str) -> Pairs:
        """Return all pairs of a part, a line's captions one after the other."""
        rows = self.lines[part].rows
        texts = [text for row in rows for text in row.texts]
        return Pairs(texts, np.repeat(np.arange(len(rows)), [len(row.texts) for row in rows]))

    def name(self, part: str, number: int) -> str:
        """Return the video's name."""
        return self.lines[part].rows[number].video
