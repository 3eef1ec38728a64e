"""Retrieval between texts and images, or videos: data, head, loss and scores."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone
from tasks.assemble import ImageSource, SplitRows, assemble, choose_rows
from tasks.base import Split, TaskData
from tasks.datasets import DatasetTask
from tasks.metrics import fold_scores, retrieval_scores
from tasks.retrieval.cards import RANKS, RetrievalConfig
from tasks.retrieval.head import PairHead
from tasks.retrieval.loss import hinge, infonce
from tasks.retrieval.pairs import Pairs, candidates, chance
from tasks.streams import own_stream


class PairSource(ImageSource, Protocol):
    """Where pairs come from."""

    @property
    def frames(self) -> int:
        """Images of a video; 1 for images."""

    def pairs(self, part: str) -> Pairs:
        """Return all pairs of a part."""


class RetrievalTask(DatasetTask):
    """Texts find their image or video, and these their texts, by embeddings.

    Args:
        config: which pairs are used, and how they are compared.
        dataset: name of one of the card's datasets.
        data_dir: folder of a dataset that is read from one, else None.
        seed: unused; subsets and splits are fixed.

    Attributes:
        modality: ``image`` or ``video``.
    """

    config: RetrievalConfig
    modality: ClassVar[str]
    embeds = True

    def __init__(
        self, config: RetrievalConfig, dataset: str, data_dir: Path | None, seed: int
    ) -> None:
        super().__init__(config, dataset, data_dir, seed)
        self.source = self.open()

    @abstractmethod
    def open(self) -> PairSource:
        """Return the source of the dataset.

        Raises:
            UserError: data are missing or damaged.
        """

    def load(self, limit: int | None = None) -> TaskData:
        """Read the pairs, carve validation out where there is none, name the images."""
        pairs = choose_rows(
            self.source,
            self.source.pairs,
            val_fraction=self.config.val_fraction,
            train_rows=self.config.train_rows,
            limit=limit,
        )
        rows = {name: SplitRows(images=p.images, texts=p.texts) for name, p in pairs.items()}
        frames = self.source.frames
        data = assemble(self.dataset_card, self.source, rows, column=self.modality, frames=frames)
        return replace(data, splits={n: _with_first(s, frames) for n, s in data.splits.items()})

    def reads(self, backbone: Backbone) -> tuple[str, ...]:
        """Return the image stream and the text stream.

        Raises:
            UserError: a stream of the two is missing, or reads the other one.
        """
        return tuple(own_stream(backbone, self.card.name, m) for m in ("image", "text"))

    def build_head(self, backbone: Backbone, embedded: Sequence[str] = ()) -> nn.Module:
        """Return the head that embeds both streams."""
        return PairHead(
            backbone,
            self.reads(backbone),
            self.config.width,
            embedded,
            scaled=self.config.loss == "infonce",
        )

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of the batch's pairs.

        Args:
            output: [B, 2, E].
            targets: ``first``, int64 [B], the image or video of each row.
        """
        if self.config.loss == "infonce":
            return infonce(output, targets["first"])
        return hinge(output, targets["first"], self.config.margin)

    def predict(self, output: Tensor) -> Tensor:
        """Return the embeddings [B, 2, E], of length 1."""
        return F.normalize(output.float(), dim=2)

    def metrics(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        """Return Rsum, recalls and ranks among all images or videos and texts of the split.

        Args:
            predictions: float32 [rows, 2, E].
            split: the pairs.
        """
        rows, places = candidates(split)
        firsts, texts, size = predictions[rows, 0], predictions[:, 1], self._fold(len(rows))
        sets = self.config.caption_sets
        if size is None:
            return retrieval_scores(
                firsts, texts, places, modality=self.modality, caption_sets=sets
            )
        return fold_scores(
            firsts, texts, places, fold_images=size, modality=self.modality, caption_sets=sets
        )

    def _fold(self, firsts: int) -> int | None:
        """Return how many images or videos make a fold; None where one fold holds all."""
        size = self.config.fold_images
        return None if size is None or firsts <= size else size

    def baselines(self, data: TaskData) -> dict[str, float]:
        """Return the Rsum of a random order."""
        _, places = candidates(data.splits["test"])
        texts = np.bincount(places)  # of every image or video
        sets = np.ones_like(texts) if self.config.caption_sets else texts
        size = self._fold(len(texts)) or len(texts)
        folds = np.split(sets, range(size, len(texts), size))
        return {"chance": float(np.mean([chance(fold, RANKS) for fold in folds]))}

    def describe(self, predictions: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """Return one row a text: where it belongs, what it found first, and its own one's rank."""
        rows, places = candidates(split)
        names = split.columns[self.modality]
        described = []
        for row, place in enumerate(places):
            scores = predictions[rows, 0] @ predictions[row, 1]  # [firsts]
            described.append(
                {
                    "row": row,
                    "text": split.columns["text"][row],
                    self.modality: names[row],
                    "prediction": names[rows[int(np.argmax(scores))]],
                    "rank": int(np.sum(scores >= scores[place])),
                }
            )
        return described


def _with_first(split: Split, frames: int) -> Split:
    """Return a split whose targets say which image or video a row belongs to."""
    first = split.units["image"].reshape(len(split), frames)[:, 0] // frames
    return replace(split, targets={"first": first})
