"""Image classification: data, head, loss and scores."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone
from tasks.assemble import SplitRows, assemble, choose_rows
from tasks.base import (
    Answer,
    AnsweringTask,
    Split,
    SplitData,
    States,
    TaskData,
    ranked_answers,
)
from tasks.blind import majority_answer
from tasks.datasets import DatasetTask
from tasks.image_classification import CARD
from tasks.image_classification.sources import (
    EXAMPLE,
    LAYOUT,
    FolderImages,
    LabelSource,
    ScenesShapes,
)
from tasks.image_rows import ImageRowsConfig
from tasks.metrics import accuracy, accuracy_by_group
from tasks.rows import IMAGE, read_new_rows
from tasks.scenes.scene import IMAGE_SIZE
from tasks.streams import own_stream


class LabelHead(nn.Module):
    """A linear layer on the salient token.

    Args:
        stream: the stream that it reads.
        width: size D of its states.
        labels: number of labels.
    """

    def __init__(self, stream: str, width: int, labels: int) -> None:
        super().__init__()
        self.stream = stream
        self.output = nn.Linear(width, labels)

    def forward(self, states: States) -> Tensor:
        """Return the logits [B, C]."""
        return self.output(states[self.stream].salient)


class ImageClassification(DatasetTask, AnsweringTask):
    """One label an image.

    Args:
        config: which images are used.
        dataset: name of one of the card's datasets.
        data_dir: folder of a dataset that is read from one, else None.
        seed: unused; subsets and splits are fixed.

    Raises:
        UserError: a folder is missing or damaged, or is given and not read.
    """

    config: ImageRowsConfig
    card, folder_layout, folder_example = CARD, LAYOUT, EXAMPLE

    @cached_property
    def source(self) -> LabelSource:
        """Where the images come from, opened when it is first asked for."""
        if self.in_folder:
            return FolderImages(self.dataset, self.data_dir, self.config.image_size)
        return ScenesShapes()

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        side = self.config.image_size if self.in_folder else IMAGE_SIZE
        return side, side

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, by position."""
        return tuple(self.source.labels)

    def load(self, limit: int | None = None) -> TaskData:
        """Read the labels, carve validation out where there is none, name the images."""
        chosen = choose_rows(
            self.source,
            self.source.rows,
            val_fraction=self.config.val_fraction,
            train_rows=self.config.train_rows,
            limit=limit,
        )
        rows = {
            name: SplitRows(images=part.images, targets={"label": part.labels})
            for name, part in chosen.items()
        }
        return assemble(self.dataset_card, self.source, rows)

    def reads(self, backbone: Backbone) -> tuple[str, ...]:
        """Return the first stream that reads images alone.

        Raises:
            UserError: there is none.
        """
        return (own_stream(backbone, CARD.name, "image"),)

    def build_head(
        self,
        backbone: Backbone,
        embedded: Sequence[str] = (),  # noqa: ARG002 - it compares none
    ) -> nn.Module:
        """Return a linear layer on the salient token."""
        (stream,) = self.reads(backbone)
        return LabelHead(stream, backbone.spec(stream).width, len(self.labels))

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the cross-entropy over the labels.

        Args:
            output: logits [B, C].
            targets: ``label``, int64 [B].
        """
        return F.cross_entropy(output.float(), targets["label"])

    def predict(self, output: Tensor) -> Tensor:
        """Return the ids [B] of the most probable labels."""
        return torch.argmax(output, dim=-1)

    def metrics(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        """Return the accuracy over all images, and the mean over the labels that occur.

        Args:
            predictions: int64 [rows].
            split: the rows that were predicted.
        """
        expected = split.targets["label"]
        by_label = accuracy_by_group(predictions, expected, expected.tolist())
        return {
            "accuracy": accuracy(predictions, expected),
            "mean_class_accuracy": float(np.mean(list(by_label.values()))),
        }

    def baselines(self, data: TaskData) -> dict[str, float]:
        """Return the accuracy on test of always saying training's most frequent label."""
        train, test = (data.splits[name].targets["label"] for name in ("train", "test"))
        most = int(majority_answer([str(label) for label in train]))
        return {"majority": float(np.mean(test == most))}

    def describe(self, predictions: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """Return one row an image: its label and the predicted one."""
        labels = self.labels
        return [
            {
                "row": row,
                "image": split.columns["image"][row],
                "label": labels[int(split.targets["label"][row])],
                "prediction": labels[int(prediction)],
            }
            for row, prediction in enumerate(predictions)
        ]

    def state(self) -> dict[str, Any]:
        """Return the labels."""
        return {"labels": list(self.labels)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over labels; the dataset's own are not looked for."""
        self.labels = tuple(state["labels"])

    def read_rows(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> SplitData:
        """Read rows of ``image``, images brought to the size of the dataset's."""
        return read_new_rows(rows, folder, (IMAGE,), self._size)

    def ranked(self, output: Tensor, top: int) -> list[list[Answer]]:
        """Return the most probable labels; see ``AnsweringTask.ranked``."""
        return ranked_answers(output, self.labels, top)
