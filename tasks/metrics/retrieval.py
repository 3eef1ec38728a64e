"""Retrieval between images, or videos, and captions: ranks and recalls from two sets of embeddings.

The score of an image and a caption is the dot product of their embeddings; for cosine similarity
they are normalised before. Embeddings are rounded to a fixed-point grid so fine that every dot
product is exact in float64. A rank therefore depends neither on the block size nor on the order of
the rows, nor on the machine's matrix product, and equal embeddings have equal scores.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.errors import UserError
from tasks.metrics.classification import check_rows

RECALL_AT = (1, 5, 10)

_BITS = 26  # two codes of norm 2**26 have a dot product below 2**53, where float64 is exact


@dataclass(frozen=True)
class Ranks:
    """The rank of the first right answer to every query; 1 is the best.

    Attributes:
        image_to_text: int64 [images].
        text_to_image: int64 [captions].
    """

    image_to_text: np.ndarray
    text_to_image: np.ndarray


def retrieval_scores(
    images: np.ndarray,
    captions: np.ndarray,
    groups: np.ndarray,
    *,
    modality: str = "image",
    caption_sets: bool = False,
    block: int = 512,
) -> dict[str, float]:
    """Return Recall@1, @5 and @10, median and mean rank in both directions, and their Rsum.

    Where there are no more than K candidates, Recall@K is 1 whatever the model says.
    Source: Faghri et al. 2018, "VSE++"; Rsum as in Chen et al. 2021, "Learning the Best Pooling
    Strategy for Visual Semantic Embedding".

    Args:
        images: float32 [images, width], embeddings of images or videos.
        captions: float32 [captions, width].
        groups: int64 [captions], the image that each caption describes.
        modality: what ``images`` are: names the directions, as in ``video_to_text``.
        caption_sets: see ``retrieval_ranks``.
        block: see ``retrieval_ranks``.

    Raises:
        UserError: there are no images, or one has no caption.
    """
    ranks = retrieval_ranks(images, captions, groups, caption_sets=caption_sets, block=block)
    directions = {
        f"{modality}_to_text": ranks.image_to_text,
        f"text_to_{modality}": ranks.text_to_image,
    }
    recalls = {
        f"recall@{k}/{direction}": float(np.mean(found <= k))
        for direction, found in directions.items()
        for k in RECALL_AT
    }
    medians = {f"median_rank/{name}": float(np.median(r)) for name, r in directions.items()}
    means = {f"mean_rank/{name}": float(np.mean(r)) for name, r in directions.items()}
    return {"rsum": sum(recalls.values()), **recalls, **medians, **means}


def fold_scores(
    images: np.ndarray,
    captions: np.ndarray,
    groups: np.ndarray,
    *,
    fold_images: int = 1000,
    modality: str = "image",
    caption_sets: bool = False,
    block: int = 512,
) -> dict[str, float]:
    """Return the mean of every retrieval score over consecutive folds of images.

    MSCOCO 1K is the mean over 5 folds of 1,000 images of the 5,000 test images, each fold with its
    own captions alone. Source: Karpathy and Fei-Fei 2015, "Deep Visual-Semantic Alignments".

    Args:
        images: float32 [images, width].
        captions: float32 [captions, width].
        groups: int64 [captions], the image that each caption describes.
        fold_images: images in a fold.
        modality: see ``retrieval_scores``.
        caption_sets: see ``retrieval_ranks``.
        block: see ``retrieval_ranks``.

    Raises:
        UserError: there are no images, or they do not fill whole folds, or one has no caption.
    """
    check_rows(len(groups), len(captions))
    if len(images) == 0 or len(images) % fold_images:
        raise UserError(f"{len(images)} images do not make whole folds of {fold_images} images.")
    folds = []
    for start in range(0, len(images), fold_images):
        inside = groups // fold_images == start // fold_images
        folds.append(
            retrieval_scores(
                images[start : start + fold_images],
                captions[inside],
                groups[inside] - start,
                modality=modality,
                caption_sets=caption_sets,
                block=block,
            )
        )
    return {key: float(np.mean([fold[key] for fold in folds])) for key in folds[0]}


def retrieval_ranks(
    images: np.ndarray,
    captions: np.ndarray,
    groups: np.ndarray,
    *,
    caption_sets: bool = False,
    block: int = 512,
) -> Ranks:
    """Return the rank of the first right answer to every query, in both directions.

    A caption looks for its own image among all images, an image for any of its captions among all
    captions. Ties count against the model: a wrong candidate with the same score stands before the
    right one. An embedding that is not finite finds nothing, and stands before all others.

    Memory: 8 bytes for each number of both embeddings, and about 10 bytes for each score of one
    block of images with the captions of another; there is never a matrix of all scores.

    Args:
        images: float32 [images, width].
        captions: float32 [captions, width].
        groups: int64 [captions], the image that each caption describes.
        caption_sets: rank an image's captions as one candidate with the score of their best, as
            CLIP4Clip does for videos of many captions (MSVD); else each caption is a candidate.
        block: images whose scores are computed at once. The ranks do not depend on it.

    Raises:
        UserError: there are no images, or one has no caption.
    """
    _check(images, captions, groups)
    order = np.argsort(groups, kind="stable")  # now an image's captions stand side by side
    owner = groups[order]
    starts = np.searchsorted(owner, np.arange(len(images) + 1))
    image_codes, caption_codes = _fixed_point(images), _fixed_point(captions[order])

    own = np.empty(len(captions))  # score of each caption with its own image
    for _, texts in _blocks(starts, block):
        own[texts] = np.einsum("md,md->m", image_codes[owner[texts]], caption_codes[texts])
    best = np.maximum.reduceat(own, starts[:-1])

    above_best = np.zeros(len(images), dtype=np.int64)
    above_own = np.zeros(len(captions), dtype=np.int64)
    for queries, _ in _blocks(starts, block):
        for others, texts in _blocks(starts, block):
            scores = image_codes[queries] @ caption_codes[texts].T  # [block, captions of block]
            above_own[texts] += _not_below(scores, own[texts]).sum(axis=0)
            if caption_sets:
                scores = np.maximum.reduceat(scores, starts[others] - texts.start, axis=1)
            above_best[queries] += _not_below(scores, best[queries, None]).sum(axis=1)

    text_to_image = np.empty_like(above_own)
    text_to_image[order] = above_own  # among them its own image, which makes ranks start at 1
    if caption_sets:
        return Ranks(image_to_text=above_best, text_to_image=text_to_image)
    right_above = np.add.reduceat(_not_below(own, best[owner]).astype(np.int64), starts[:-1])
    return Ranks(image_to_text=1 + above_best - right_above, text_to_image=text_to_image)


def _check(images: np.ndarray, captions: np.ndarray, groups: np.ndarray) -> None:
    check_rows(len(groups), len(captions))
    if images.ndim != 2 or captions.ndim != 2 or images.shape[1] != captions.shape[1]:
        raise ValueError(f"embeddings of shapes {images.shape} and {captions.shape} do not match")
    if groups.min() < 0 or groups.max() >= len(images):
        raise ValueError(f"groups must lie in 0..{len(images) - 1}")
    without = len(images) - len(np.unique(groups))
    if without:
        raise UserError(
            f"Retrieval needs a caption for every image; {without} of {len(images)} have none."
        )


def _blocks(starts: np.ndarray, block: int) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of images, each with the slice of their captions."""
    count = len(starts) - 1
    for first in range(0, count, block):
        last = min(first + block, count)
        yield slice(first, last), slice(int(starts[first]), int(starts[last]))


def _fixed_point(embeddings: np.ndarray) -> np.ndarray:
    """Return whole numbers in float64 that are proportional to the embeddings.

    The longest embedding becomes at most 2**26 long: a code is as fine as float32. A row that is
    not finite becomes NaN.
    """
    codes = embeddings.astype(np.float64)
    codes[~np.isfinite(codes).all(axis=1)] = np.nan
    norms = np.sqrt(np.einsum("nd,nd->n", codes, codes))
    longest = np.max(norms, initial=0.0, where=np.isfinite(norms))
    _, exponent = np.frexp(longest)
    np.ldexp(codes, _BITS - exponent, out=codes)  # a power of two: this step is exact
    return np.rint(codes, out=codes)


def _not_below(scores: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Return where a score is at least its bound; NaN on either side is never below."""
    below = scores < bound
    return np.logical_not(below, out=below)
