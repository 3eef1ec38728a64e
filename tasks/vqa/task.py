"""Visual question answering: data, answer head, loss, metrics and blind baselines."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone
from harness.errors import UserError, did_you_mean
from tasks.base import Images, Provenance, Split, States, Task, TaskData, Texts
from tasks.metrics import accuracy, accuracy_by_group, mean_vqa_accuracy
from tasks.sources import Fingerprint
from tasks.vqa import CARD, VqaConfig
from tasks.vqa.blind import majority_answer, question_only_answers
from tasks.vqa.datasets import DATASETS, Dataset, Part, Rows

OUTSIDE_VOCABULARY = -1
"""Target of an answer that no prediction can equal; its row stays in every denominator."""

_SPLIT_SEED = 20150503  # fixed for good: no run's seed moves a row from one split to another
_STREAMS = {"train": 1, "val": 2, "test": 3}
_CARVE_STREAM = 0


class AnswerHead(nn.Module):
    """Linear, GELU, LayerNorm, Linear on the salient tokens of streams, side by side.

    Source: the answer head of LXMERT (Tan and Bansal 2019), which CLIP-ViL keeps, on one stream.

    Args:
        streams: the streams that it reads.
        width: size D of their states together.
        answers: number of answers A.
    """

    def __init__(self, streams: Sequence[str], width: int, answers: int) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.LayerNorm(2 * width),
            nn.Linear(2 * width, answers),
        )

    def forward(self, states: States) -> Tensor:
        """Return the logits [B, A] of all answers."""
        salients = [states[name].salient for name in self.streams]
        return self.layers(torch.cat(salients, 1) if len(salients) > 1 else salients[0])


class Vqa(Task):
    """Visual question answering as classification over a closed vocabulary of answers.

    Args:
        config: which questions are used.
        dataset: name of one of the card's datasets.
        data_dir: must be None: every dataset is bundled or comes with a package.
        seed: unused; subsets and splits are fixed.

    Raises:
        UserError: the dataset is unknown, or a folder is given.
    """

    config: VqaConfig

    def __init__(self, config: VqaConfig, dataset: str, data_dir: Path | None, seed: int) -> None:
        super().__init__(config, dataset, data_dir, seed)
        cards = {card.name: card for card in CARD.datasets}
        if dataset not in cards:
            raise UserError(
                f"Unknown dataset '{dataset}' of task 'vqa'.{did_you_mean(dataset, cards)}"
            )
        if data_dir is not None:
            raise UserError(
                f"--data-dir '{data_dir}': dataset '{dataset}' is read from no folder "
                f"(source: {cards[dataset].source}). Leave --data-dir out."
            )
        self.card = cards[dataset]
        self.source: Dataset = DATASETS[dataset]()

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """The vocabulary: answer i is what prediction i says."""
        return self.source.answers

    def load(self, limit: int | None = None) -> TaskData:
        """Read the questions, carve validation out of train by image, read the images."""
        rows = self._select(self._carve(), limit)
        fingerprint = Fingerprint()
        fingerprint.add("\n".join(self.answers).encode())
        strings = sorted({question for part in rows.values() for question in part.questions})
        text_unit = {text: unit for unit, text in enumerate(strings)}
        arrays: list[np.ndarray] = []
        splits: dict[str, Split] = {}
        for name, part in rows.items():
            numbers, image_unit = np.unique(part.images, return_inverse=True)
            before = sum(len(array) for array in arrays)
            arrays.append(self.source.images(_part(name), numbers, fingerprint))
            splits[name] = self._split(name, part, before + image_unit, text_unit)
            _add_rows(fingerprint, name, part)
        return TaskData(
            units={"image": Images(np.concatenate(arrays)), "text": Texts(strings)},
            splits=splits,
            provenance=Provenance(
                name=self.card.name,
                source=self.card.source,
                revision=self.source.revision,
                licence=self.card.licence,
                rows={name: len(split) for name, split in splits.items()},
                fingerprint=fingerprint.hexdigest(),
            ),
        )

    def _carve(self) -> dict[str, Rows]:
        train = self.source.rows("train")
        unknown = sorted(set(train.answers) - set(self.answers))
        if unknown:
            raise UserError(
                f"Dataset '{self.dataset}' is damaged: its training answers {unknown} are not in "
                f"its own list of answers."
            )
        numbers = np.unique(train.images)
        held_out = max(1, round(self.config.val_fraction * len(numbers)))
        order = _fixed_permutation(len(numbers), _CARVE_STREAM)
        in_val = np.isin(train.images, numbers[order[:held_out]])
        return {
            "train": train.select(np.flatnonzero(~in_val)),
            "val": train.select(np.flatnonzero(in_val)),
            "test": self.source.rows("test"),
        }

    def _select(self, rows: Mapping[str, Rows], limit: int | None) -> dict[str, Rows]:
        wanted = {"train": self.config.train_rows, "val": self.config.val_rows, "test": None}
        selected = {}
        for name, part in rows.items():
            bounds = [bound for bound in (wanted[name], limit) if bound is not None]
            order = _fixed_permutation(len(part), _STREAMS[name])
            selected[name] = part.select(np.sort(order[: min([len(part), *bounds])]))
        return selected

    def _split(
        self, name: str, part: Rows, image_unit: np.ndarray, text_unit: Mapping[str, int]
    ) -> Split:
        ids = {answer: i for i, answer in enumerate(self.answers)}
        return Split(
            units={
                "image": image_unit.astype(np.int64),
                "text": np.asarray([text_unit[q] for q in part.questions], dtype=np.int64),
            },
            targets={
                "answer": np.asarray(
                    [ids.get(a, OUTSIDE_VOCABULARY) for a in part.answers], dtype=np.int64
                )
            },
            columns={
                "question": part.questions,
                "question_type": part.kinds,
                "answer": part.answers,
                "image": [f"{_part(name)}/{number}" for number in part.images],
            },
        )

    def reads(self, backbone: Backbone) -> tuple[str, ...]:
        """Return the streams that no other reads: a joint one, or the towers of a dual encoder.

        Raises:
            UserError: they do not read both the image and the question.
        """
        sources = {source for spec in backbone.specs for source in spec.sources}
        last = tuple(spec.name for spec in backbone.specs if spec.name not in sources)
        read = {spec.modality for spec in backbone.needed(last)}
        missing = [modality for modality in CARD.modalities if modality not in read]
        if missing:
            raise UserError(
                f"Task 'vqa' needs a backbone that reads image and text; "
                f"{type(backbone).__name__} reads no {' and no '.join(missing)}."
            )
        return last

    def build_head(self, backbone: Backbone) -> nn.Module:
        """Return the answer head for the width of the streams that it reads."""
        streams = self.reads(backbone)
        width = sum(backbone.spec(name).width for name in streams)
        return AnswerHead(streams, width, len(self.answers))

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the cross-entropy over the answers.

        VQAv2 models use binary cross-entropy on the soft scores of ten annotators; with one true
        answer a question, those scores are one-hot and softmax is the plain choice.

        Args:
            output: logits [B, A].
            targets: ``answer``, int64 [B]; answers outside the vocabulary teach nothing.
        """
        return F.cross_entropy(output.float(), targets["answer"], ignore_index=OUTSIDE_VOCABULARY)

    def predict(self, output: Tensor) -> Tensor:
        """Return the ids [B] of the most probable answers."""
        return output.argmax(dim=-1)

    def metrics(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        """Return VQA accuracy, accuracy, and accuracy by question type.

        Args:
            predictions: int64 [rows], ids of answers.
            split: the rows that were predicted.
        """
        expected = split.targets["answer"]
        by_type = accuracy_by_group(predictions, expected, split.columns["question_type"])
        return {
            "vqa_accuracy": self._vqa_accuracy([self.answers[int(p)] for p in predictions], split),
            "accuracy": accuracy(predictions, expected),
            **{f"accuracy/{kind}": score for kind, score in by_type.items()},
        }

    def baselines(self, data: TaskData) -> dict[str, float]:
        """Return the VQA accuracy on test of predictors that see no image.

        ``majority`` always says the most frequent training answer; ``question_only`` answers by
        the question's words.
        """
        train, test = data.splits["train"], data.splits["test"]
        asked, answers = train.columns["question"], train.columns["answer"]
        blind = question_only_answers(asked, answers, test.columns["question"])
        return {
            "majority": self._vqa_accuracy([majority_answer(answers)] * len(test), test),
            "question_only": self._vqa_accuracy(blind, test),
        }

    def describe(self, predictions: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """Return one row a question: what was asked about which image, expected and predicted."""
        columns = split.columns
        return [
            {
                "row": row,
                "image": columns["image"][row],
                "question": columns["question"][row],
                "question_type": columns["question_type"][row],
                "answer": columns["answer"][row],
                "prediction": self.answers[int(prediction)],
                "correct": bool(prediction == split.targets["answer"][row]),
            }
            for row, prediction in enumerate(predictions)
        ]

    def _vqa_accuracy(self, predicted: list[str], split: Split) -> float:
        return mean_vqa_accuracy(predicted, [[answer] for answer in split.columns["answer"]])


def _part(split: str) -> Part:
    return "test" if split == "test" else "train"


def _fixed_permutation(count: int, stream: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64([_SPLIT_SEED, stream]))
    return generator.permutation(count)


def _add_rows(fingerprint: Fingerprint, name: str, part: Rows) -> None:
    fingerprint.add(name.encode())
    for question, answer, number in zip(part.questions, part.answers, part.images, strict=True):
        fingerprint.add(f"{question}\t{answer}\t{number}".encode())
