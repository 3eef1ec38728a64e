"""Videos as frames, and their captions: drawn, or out of a folder."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import Field

from harness.errors import UserError
from tasks.base import Images, Units
from tasks.folder import (
    DataFolder,
    ImageFile,
    ImageFiles,
    Lines,
    Row,
    layout,
    missing_images,
    refuse,
)
from tasks.retrieval.pairs import Pairs, empty_captions, repeated
from tasks.scenes.clips import FRAMES, Clip, draw_clip, render_clip
from tasks.sources import Fingerprint


class ScenesClips:
    """Drawn clips in which one shape moves, of the domain that no pretraining has seen."""

    revision = "shifted-1"
    frames = FRAMES
    parts = ("train", "test")
    domain, world_seed = "shifted", 7003
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


class FolderVideos:
    """Frames and captions as ``tasks.folder`` describes them; frames become squares.

    Args:
        dataset: the dataset's name.
        data_dir: the folder.
        size: height and width of the squares.

    Raises:
        UserError: the folder, a file or a frame is missing, or a line is wrong, or the videos
            have different numbers of frames.
    """

    def __init__(self, dataset: str, data_dir: Path | None, size: tuple[int, int]) -> None:
        self.size = size
        folder = DataFolder(dataset, data_dir)
        content = Fingerprint()
        self._lines: dict[str, Lines[CaptionedVideo]] = {}
        for part, name in folder.parts().items():
            lines = folder.read(name, CaptionedVideo, content)
            problems = missing_images(lines, [row.frames for row in lines.rows])
            problems += repeated([row.video for row in lines.rows])
            problems += empty_captions([row.texts for row in lines.rows])
            refuse(lines.path, problems)
            self._lines[part] = lines
        self.parts = tuple(self._lines)
        self.revision = f"sha256:{content.hexdigest()[:16]}"
        counts = {len(row.frames) for lines in self._lines.values() for row in lines.rows}
        if len(counts) > 1:
            raise UserError(
                f"Dataset '{dataset}': every video must have as many frames; found "
                f"{', '.join(map(str, sorted(counts)))}."
            )
        (self.frames,) = counts

    def pairs(self, part: str) -> Pairs:
        """Return all pairs of a part, a line's captions one after the other."""
        rows = self._lines[part].rows
        texts = [text for row in rows for text in row.texts]
        return Pairs(texts, np.repeat(np.arange(len(rows)), [len(row.texts) for row in rows]))

    def name(self, part: str, number: int) -> str:
        """Return the video's name."""
        return self._lines[part].rows[number].video

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return the frames, decoded when they are read."""
        lines = self._lines[part]
        names = [frame for number in numbers.tolist() for frame in lines.rows[number].frames]
        for name in names:
            fingerprint.add(lines.images.stamp(name).encode())
        return ImageFiles([ImageFile(lines.images, name) for name in names], self.size)
