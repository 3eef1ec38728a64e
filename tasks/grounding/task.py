"""Visual grounding: data, box head, loss and scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone
from tasks.assemble import SplitRows, assemble, choose_rows
from tasks.base import Split, States, TaskData
from tasks.datasets import DatasetTask
from tasks.grounding import CARD, GroundingConfig
from tasks.grounding.sources import (
    EXAMPLE,
    LAYOUT,
    ExpressionSource,
    FolderBoxes,
    ScenesBoxes,
)
from tasks.metrics import grounding_scores
from tasks.streams import last_streams

L1_WEIGHT, GIOU_WEIGHT = 5.0, 2.0
EPSILON = 1e-7  # of areas, which are shares of the image's


class BoxHead(nn.Module):
    """Three linear layers on the salient tokens of streams, side by side, to a box.

    Source: the box head of DETR (Carion et al., ECCV 2020) on one token, as TransVG (Deng et al.,
    ICCV 2021) has it.

    Args:
        streams: the streams that it reads.
        width: size D of their states together.
    """

    def __init__(self, streams: Sequence[str], width: int) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.layers = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 4),
        )

    def forward(self, states: States) -> Tensor:
        """Return boxes [B, 4]: centre x and y, width, height, as shares of the image's sides."""
        salients = [states[name].salient for name in self.streams]
        return self.layers(torch.cat(salients, 1) if len(salients) > 1 else salients[0]).sigmoid()


def corners(boxes: Tensor) -> Tensor:
    """Return left, top, right, bottom [B, 4] of centre x and y, width, height [B, 4]."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1)


def generalized_iou(one: Tensor, other: Tensor) -> Tensor:
    """Return the generalised IoU [B] of boxes [B, 4]: left, top, right, bottom; differentiable.

    No value decides what is computed, so that a step can be predicted from shapes alone.
    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019.
    """
    inner = _area(torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:]))
    outer = _area(torch.minimum(one[:, :2], other[:, :2]), torch.maximum(one[:, 2:], other[:, 2:]))
    union = _area(one[:, :2], one[:, 2:]) + _area(other[:, :2], other[:, 2:]) - inner
    return inner / (union + EPSILON) - (outer - union) / (outer + EPSILON)


def _area(left_top: Tensor, right_bottom: Tensor) -> Tensor:
    return (right_bottom - left_top).clamp(min=0).prod(dim=1)


class Grounding(DatasetTask):
    """One box an expression.

    Args:
        config: which expressions are used.
        dataset: name of one of the card's datasets.
        data_dir: folder of a dataset that is read from one, else None.
        seed: unused; subsets and splits are fixed.

    Raises:
        UserError: a folder is missing or damaged, or is given and not read.
    """

    config: GroundingConfig
    card, folder_layout, folder_example = CARD, LAYOUT, EXAMPLE

    def __init__(
        self, config: GroundingConfig, dataset: str, data_dir: Path | None, seed: int
    ) -> None:
        super().__init__(config, dataset, data_dir, seed)
        self.source: ExpressionSource = ScenesBoxes()
        if self.in_folder:
            self.source = FolderBoxes(dataset, data_dir, config.image_size, config.images_dir)

    def load(self, limit: int | None = None) -> TaskData:
        """Read the expressions, carve validation out where there is none, name the images."""
        chosen = choose_rows(
            self.source,
            self.source.expressions,
            val_fraction=self.config.val_fraction,
            train_rows=self.config.train_rows,
            limit=limit,
        )
        rows = {
            name: SplitRows(images=part.images, targets={"box": part.boxes}, texts=part.texts)
            for name, part in chosen.items()
        }
        return assemble(self.dataset_card, self.source, rows)

    def reads(self, backbone: Backbone) -> tuple[str, ...]:
        """Return the streams that no other reads; see ``last_streams``."""
        return last_streams(backbone, CARD.name, CARD.modalities)

    def build_head(
        self,
        backbone: Backbone,
        embedded: Sequence[str] = (),  # noqa: ARG002 - it compares none
    ) -> nn.Module:
        """Return the box head for the width of the streams that it reads."""
        streams = self.reads(backbone)
        return BoxHead(streams, sum(backbone.spec(name).width for name in streams))

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return five times the absolute error and two times the loss of generalised IoU.

        Source: the box loss of DETR, Carion et al., ECCV 2020, section 3.1 and appendix A.4.

        Args:
            output: [B, 4]: centre x and y, width, height.
            targets: ``box``, float32 [B, 4]: left, top, right, bottom.
        """
        predicted, expected = corners(output.float()), targets["box"]
        centres = (expected[:, :2] + expected[:, 2:]) / 2
        sizes = expected[:, 2:] - expected[:, :2]
        distance = F.l1_loss(output.float(), torch.cat([centres, sizes], 1)) * 4
        overlap = 1 - generalized_iou(predicted, expected).mean()
        return L1_WEIGHT * distance + GIOU_WEIGHT * overlap

    def predict(self, output: Tensor) -> Tensor:
        """Return the boxes [B, 4]: left, top, right, bottom."""
        return corners(output.float())

    def metrics(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        """Return accuracy at an IoU of 0.5, the same by generalised IoU, and the mean IoU.

        Args:
            predictions: float32 [rows, 4].
            split: the rows that were predicted.
        """
        return grounding_scores(predictions, split.targets["box"])

    def baselines(self, data: TaskData) -> dict[str, float]:
        """Return the accuracy on test of predictors that see no image.

        ``mean_box`` always says the mean training box; ``expression_only`` the mean box of the
        same expression in training, where there is one.
        """
        train, test = data.splits["train"], data.splits["test"]
        boxes = train.targets["box"]
        mean = boxes.mean(axis=0)
        by_text: dict[str, list[np.ndarray]] = {}
        for text, box in zip(train.columns["text"], boxes, strict=True):
            by_text.setdefault(text, []).append(box)
        known = [
            np.mean(by_text[text], axis=0) if text in by_text else mean
            for text in test.columns["text"]
        ]
        guesses = {"mean_box": np.tile(mean, (len(test), 1)), "expression_only": np.stack(known)}
        return {name: self.metrics(guess, test)[CARD.primary] for name, guess in guesses.items()}

    def describe(self, predictions: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """Return one row an expression: what it says of which image, the box and the predicted."""
        return [
            {
                "row": row,
                "image": split.columns["image"][row],
                "expression": split.columns["text"][row],
                "box": [round(float(v), 4) for v in split.targets["box"][row]],
                "prediction": [round(float(v), 4) for v in prediction],
            }
            for row, prediction in enumerate(predictions)
        ]
