"""From rows about images to a task's data: splits, distinct units, provenance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from harness.cards import DatasetCard
from tasks.base import Chain, Provenance, Split, TaskData, Texts, Units
from tasks.sources import Fingerprint
from tasks.subsets import carve_groups, fixed_subset

SPLITS = ("train", "val", "test")


class ImageSource(Protocol):
    """Where images, or videos, and what is said of them come from."""

    @property
    def revision(self) -> str:
        """The version of the data."""

    @property
    def parts(self) -> Sequence[str]:
        """Which of ``train``, ``val`` and ``test`` there are.

        Without ``val``, validation is carved out of ``train``.
        """

    def name(self, part: str, number: int) -> str:
        """Return how reports name an image or video of a part."""

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return images of a part by number, a video's frames one after the other.

        ``fingerprint`` takes in what is read.
        """


class ImageRows(Protocol):
    """Rows of one part, each about an image."""

    @property
    def images(self) -> np.ndarray:
        """The number of each row's image or video within its part, int64 [rows]."""

    def __len__(self) -> int: ...

    def select(self, rows: np.ndarray) -> Self:
        """Return the rows at these positions (int64)."""


R = TypeVar("R", bound=ImageRows)


@dataclass(frozen=True)
class SplitRows:
    """What a task's rows of one split are made of.

    Attributes:
        images: int64 [rows], numbers within the source's part.
        targets: by name, [rows, ...].
        columns: by name, one value a row.
        texts: one a row; None where rows have no text.
    """

    images: np.ndarray
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    texts: Sequence[str] | None = None


def choose_rows(
    source: ImageSource,
    rows_of: Callable[[str], R],
    *,
    val_fraction: float,
    train_rows: int | None,
    limit: int | None,
) -> dict[str, R]:
    """Return the rows of each split; validation shares no image with training.

    Args:
        source: says which parts there are.
        rows_of: returns all rows of a part.
        val_fraction: share of the training images that become validation where there is none.
        train_rows: bound of the training rows.
        limit: bound of each split's rows.
    """
    parts = {name: rows_of(name) for name in source.parts}
    if "val" not in parts:
        train = parts["train"]
        kept, held = carve_groups(train.images, val_fraction)
        parts["train"], parts["val"] = train.select(kept), train.select(held)
    bounds = {"train": (train_rows, limit), "val": (limit,), "test": (limit,)}
    return {
        name: parts[name].select(fixed_subset(name, len(parts[name]), bounds[name]))
        for name in SPLITS
    }


def assemble(
    card: DatasetCard,
    source: ImageSource,
    rows: Mapping[str, SplitRows],
    *,
    column: str = "image",
    frames: int = 1,
) -> TaskData:
    """Return a task's data, each distinct image and text as one unit.

    Args:
        card: of the dataset.
        source: gives the images.
        rows: by split.
        column: the column of the images' names.
        frames: units of one row's image: a video's frames.
    """
    fingerprint = Fingerprint()
    images: list[Units] = []
    splits: dict[str, Split] = {}
    strings = sorted({text for part in rows.values() for text in part.texts or ()})
    text_unit = {text: unit for unit, text in enumerate(strings)}
    for name, part in rows.items():
        numbers, places = np.unique(part.images, return_inverse=True)
        before = sum(len(units) for units in images) // frames
        source_part = "train" if name == "val" and "val" not in source.parts else name
        images.append(source.images(source_part, numbers, fingerprint))
        first = (before + places).astype(np.int64)
        units = {"image": first if frames == 1 else frames * first[:, None] + np.arange(frames)}
        columns = {column: [source.name(source_part, int(n)) for n in part.images], **part.columns}
        if part.texts is not None:
            units["text"] = np.asarray([text_unit[t] for t in part.texts], dtype=np.int64)
            columns = {**columns, "text": part.texts}
        splits[name] = Split(units=units, targets=part.targets, columns=columns)
        _add_rows(fingerprint, name, splits[name])
    return TaskData(
        units={"image": Chain(images), **({"text": Texts(strings)} if strings else {})},
        splits=splits,
        provenance=Provenance(
            name=card.name,
            source=card.source,
            revision=source.revision,
            licence=card.licence,
            rows={name: len(split) for name, split in splits.items()},
            fingerprint=fingerprint.hexdigest(),
        ),
    )


def _add_rows(fingerprint: Fingerprint, name: str, split: Split) -> None:
    fingerprint.add(name.encode())
    for column in split.columns.values():
        fingerprint.add("\n".join(map(str, column)).encode())
    for target in split.targets.values():
        fingerprint.add(np.ascontiguousarray(target).tobytes())
