"""Visual grounding: data, box head, loss and scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone, StreamSpec, StreamState
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
    """A query looks for its object among tokens; two layers tell the box of what it found.

    The query is made of the salient tokens of all streams but images; it looks among the tokens of
    the image, or of all streams where none is an image's.

    Source: the box head of DETR (Carion et al., ECCV 2020) on one token, as TransVG (Deng et al.,
    ICCV 2021) has it; as no token of a frozen backbone has looked, the head looks itself, by one
    attention of dot products (Vaswani et al., 2017, eq. 1). Norms let it learn at the high rates
    of small networks.

    Args:
        specs: the streams that it reads.
    """

    def __init__(self, specs: Sequence[StreamSpec]) -> None:
        super().__init__()
        images = [spec for spec in specs if spec.modality == "image"]
        asking = [spec for spec in specs if spec not in images]
        self.among = tuple(spec.name for spec in images or specs)
        self.asking = tuple(spec.name for spec in asking)
        width, asked = max(spec.width for spec in specs), sum(spec.width for spec in asking)
        self.query = nn.Sequential(nn.LayerNorm(asked), nn.Linear(asked, width))
        self.norms, self.keys, self.values = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for spec in images or specs:
            self.norms[spec.name] = nn.LayerNorm(spec.width)
            self.keys[spec.name] = nn.Linear(spec.width, width)
            self.values[spec.name] = nn.Linear(spec.width, width)
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4)
        )

    def forward(self, states: States) -> Tensor:
        """Return boxes [B, 4]: centre x and y, width, height, as shares of the image's sides."""
        query = self.query(torch.cat([states[n].salient for n in self.asking], 1))  # [B, W]
        tokens = {n: self.norms[n](_tokens(states[n])) for n in self.among}  # [B, N, D] each
        keys = torch.cat([self.keys[n](t) for n, t in tokens.items()], 1)  # [B, M, W]
        values = torch.cat([self.values[n](t) for n, t in tokens.items()], 1)  # [B, M, W]
        mask = torch.cat([_mask(states[n]) for n in self.among], 1)  # [B, M]
        scores = (keys @ query[:, :, None]).squeeze(2) / query.shape[1] ** 0.5  # [B, M]
        weights = scores.float().masked_fill(~mask, -torch.inf).softmax(1).to(values.dtype)
        found = (weights[:, None] @ values).squeeze(1)  # [B, W]
        return self.layers(found).sigmoid()


def _tokens(state: StreamState) -> Tensor:
    """Return a stream's tokens [B, N, D] without a prompt's."""
    return state.output[:, state.content]


def _mask(state: StreamState) -> Tensor:
    """Return which of a stream's tokens are real: bool [B, N]."""
    if state.mask is None:
        tokens = _tokens(state)
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return state.mask[:, state.content]


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
        """Return the streams that no other reads, before them the image that a joint one reads.

        A joint stream's tokens have forgotten the places of what the image's tokens still show.

        Raises:
            UserError: the backbone does not read images and texts; see ``last_streams``.
        """
        last = last_streams(backbone, CARD.name, CARD.modalities)
        sources = {source for name in last for source in backbone.spec(name).sources}
        images = [s.name for s in backbone.specs if s.name in sources and s.modality == "image"]
        return (*images, *last)

    def build_head(
        self,
        backbone: Backbone,
        embedded: Sequence[str] = (),  # noqa: ARG002 - it compares none
    ) -> nn.Module:
        """Return the box head for the streams that it reads."""
        return BoxHead([backbone.spec(name) for name in self.reads(backbone)])

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
