"""Pairs of an image, or a video, and a text that belongs to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.base import Split


@dataclass(frozen=True)
class Pairs:
    """Some texts, and which image or video each belongs to.

    Attributes:
        texts: one a row.
        images: int64 [rows], the number of the image or video within its part.
    """

    texts: Sequence[str]
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: np.ndarray) -> "Pairs":
        """Return the pairs at these positions (int64)."""
        return Pairs([self.texts[i] for i in rows], self.images[rows])


def empty_captions(captions: Sequence[Sequence[str]]) -> list[str]:
    """Return a sentence for every line that has no caption, or an empty one."""
    return [
        f"line {number}: a caption is empty"
        for number, texts in enumerate(captions, 1)
        if not texts or not all(text.strip() for text in texts)
    ]


def candidates(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of every distinct image or video, and each row's place among them.

    Args:
        split: the pairs.

    Returns:
        Rows, int64 [firsts], and places, int64 [rows].
    """
    _, rows, places = np.unique(split.targets["first"], return_index=True, return_inverse=True)
    return rows, places


def chance(texts: np.ndarray, ranks: Sequence[int]) -> float:
    """Return the Rsum that a random order has on average.

    Args:
        texts: int64 [firsts], how many candidates each image or video has among the texts.
        ranks: the K of Recall@K.
    """
    total, count = 0.0, int(texts.sum())
    for k in ranks:
        missed = [_all_outside(count, int(own), k) for own in texts]
        total += min(1.0, k / len(texts)) + 1.0 - float(np.mean(missed))
    return total


def _all_outside(texts: int, own: int, k: int) -> float:
    """Return the chance that none of ``own`` texts is among the first ``k`` of all."""
    missed = 1.0
    for place in range(min(k, texts)):
        missed *= max(0, texts - own - place) / (texts - place)
    return missed
