"""Image classification: data, head, loss and scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone
from harness.errors import UserError
from tasks.assemble import SplitRows, assemble, choose_rows
from tasks.base import Split, States, Task, TaskData
from tasks.blind import majority_answer
from tasks.folder import write_example
from tasks.image_classification import CARD, ImageClassificationConfig
from tasks.image_classification.sources import (
    EXAMPLE,
    LAYOUT,
    FolderImages,
    LabelSource,
    ScenesShapes,
)
from tasks.metrics import accuracy, accuracy_by_group


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


class ImageClassification(Task):
    """One label an image.

    Args:
        config: which images are used.
        dataset: name of one of the card's datasets.
        data_dir: folder of a dataset that is read from one, else None.
        seed: unused; subsets and splits are fixed.

    Raises:
        UserError: a folder is missing or damaged, or is given and not read.
    """

    config: ImageClassificationConfig

    def __init__(
        self, config: ImageClassificationConfig, dataset: str, data_dir: Path | None, seed: int
    ) -> None:
        super().__init__(config, dataset, data_dir, seed)
        self.card = next(card for card in CARD.datasets if card.name == dataset)
        if self.card.source == "folder":
            size = (config.image_size, config.image_size)
            self.source: LabelSource = FolderImages(dataset, data_dir, size)
            return
        if data_dir is not None:
            raise UserError(
                f"--data-dir '{data_dir}': dataset '{dataset}' is read from no folder "
                f"(source: {self.card.source}). Leave --data-dir out."
            )
        self.source = ScenesShapes()

    @classmethod
    def layout(cls, dataset: str) -> Mapping[str, str]:
        """Return the files of a folder of labelled images; see ``Task.layout``."""
        return LAYOUT if _is_folder(dataset) else super().layout(dataset)

    @classmethod
    def write_example(cls, dataset: str, folder: Path) -> None:
        """Write a tiny folder of labelled images; see ``Task.write_example``."""
        if not _is_folder(dataset):
            super().write_example(dataset, folder)
        write_example(folder, EXAMPLE)

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
        return assemble(self.card, self.source, rows)

    def reads(self, backbone: Backbone) -> tuple[str, ...]:
        """Return the first stream that reads images alone.

        Raises:
            UserError: there is none.
        """
        for spec in backbone.specs:
            if spec.modality == "image" and not spec.sources:
                return (spec.name,)
        raise UserError(
            f"Task '{CARD.name}' needs a backbone with a stream of images; "
            f"{type(backbone).__name__} has {', '.join(spec.name for spec in backbone.specs)}."
        )

    def build_head(
        self,
        backbone: Backbone,
        embedded: Sequence[str] = (),  # noqa: ARG002 - it compares none
    ) -> nn.Module:
        """Return a linear layer on the salient token."""
        (stream,) = self.reads(backbone)
        return LabelHead(stream, backbone.spec(stream).width, len(self.source.labels))

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
        labels = self.source.labels
        return [
            {
                "row": row,
                "image": split.columns["image"][row],
                "label": labels[int(split.targets["label"][row])],
                "prediction": labels[int(prediction)],
            }
            for row, prediction in enumerate(predictions)
        ]


def _is_folder(dataset: str) -> bool:
    return any(card.name == dataset and card.source == "folder" for card in CARD.datasets)
