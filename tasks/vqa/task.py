"""Visual question answering: data, answer head, loss, metrics and blind baselines."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone
from harness.errors import UserError
from tasks.base import (
    Answer,
    AnsweringTask,
    Chain,
    Provenance,
    Split,
    SplitData,
    States,
    TaskData,
    Texts,
    Units,
    ranked_answers,
)
from tasks.blind import answers_by_words, majority_answer
from tasks.datasets import DatasetTask
from tasks.folder import layout
from tasks.metrics import (
    accuracy,
    accuracy_by_group,
    mean_vqa_accuracy,
    normalize_answer,
    vqa_accuracy,
)
from tasks.rows import IMAGE, TEXT, read_new_rows
from tasks.sources import Fingerprint
from tasks.streams import last_streams, mean_token
from tasks.vqa import CARD, VqaConfig
from tasks.vqa.datasets import Dataset, EasyVqa, Rows, ScenesVqa
from tasks.vqa.folder import FolderVqa

OUTSIDE_VOCABULARY = -1
"""Target of an answer that no prediction can equal; its row stays in every denominator."""

_SPLIT_SEED = 20150503  # fixed for good: no run's seed moves a row from one split to another
_STREAMS = {"train": 1, "val": 2, "test": 3}
_CARVE_STREAM = 0


class AnswerHead(nn.Module):
    """Linear, GELU, LayerNorm, Linear on one token of every stream, side by side.

    Source: the answer head of LXMERT (Tan and Bansal 2019), which CLIP-ViL keeps, on one stream.

    Args:
        streams: the streams that it reads.
        width: size D of their states together.
        answers: number of answers A.
        mean: whether it reads the mean of a stream's tokens, and not the salient one.
    """

    def __init__(self, streams: Sequence[str], width: int, answers: int, *, mean: bool) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.mean = mean
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.LayerNorm(2 * width),
            nn.Linear(2 * width, answers),
        )

    def forward(self, states: States) -> Tensor:
        """Return the logits [B, A] of all answers."""
        read = [states[name] for name in self.streams]
        tokens = [mean_token(state) if self.mean else state.salient for state in read]
        return self.layers(torch.cat(tokens, 1) if len(tokens) > 1 else tokens[0])


class Vqa(DatasetTask, AnsweringTask):
    """Visual question answering as classification over a closed vocabulary of answers.

    Args:
        config: which questions are used.
        dataset: name of one of the card's datasets.
        data_dir: folder of a dataset that is read from one, else None.
        seed: unused; subsets and splits are fixed.

    Raises:
        UserError: the dataset is unknown, or its folder is missing or damaged, or one is given
            that it does not read.

    Attributes:
        sources: the datasets that need no folder, by name.
        folder_source: what reads a folder.
    """

    config: VqaConfig
    card = CARD
    folder_layout = layout(FolderVqa.line)
    folder_example = FolderVqa.example
    sources: ClassVar[Mapping[str, type[Dataset]]] = {"easy-vqa": EasyVqa, "scenes-vqa": ScenesVqa}
    folder_source: ClassVar[type[FolderVqa]] = FolderVqa

    def __init__(self, config: VqaConfig, dataset: str, data_dir: Path | None, seed: int) -> None:
        super().__init__(config, dataset, data_dir, seed)
        self.source: Dataset = (
            self.folder_source(config, data_dir, dataset)
            if self.in_folder
            else self.sources[dataset](config, None)
        )

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
        images: list[Units] = []
        splits: dict[str, Split] = {}
        for name, part in rows.items():
            numbers, image_unit = np.unique(part.images, return_inverse=True)
            before = sum(len(part) for part in images)
            images.append(self.source.images(self._part(name), numbers, fingerprint))
            splits[name] = self._split(name, part, before + image_unit, text_unit)
            _add_rows(fingerprint, name, part)
        return TaskData(
            units={"image": Chain(images), "text": Texts(strings)},
            splits=splits,
            provenance=Provenance(
                name=self.dataset,
                source=self.dataset_card.source,
                revision=self.source.revision,
                licence=self.dataset_card.licence,
                rows={name: len(split) for name, split in splits.items()},
                fingerprint=fingerprint.hexdigest(),
            ),
            notices=_outside_vocabulary(splits),
        )

    def _carve(self) -> dict[str, Rows]:
        parts = {name: self.source.rows(name) for name in self.source.parts}
        train = parts["train"]
        if unknown := sorted(set(train.answers) - set(self.answers)):
            self._refuse_unknown(unknown)
        if "val" in parts:
            return {name: parts[name] for name in ("train", "val", "test")}
        numbers = np.unique(train.images)
        held_out = max(1, round(self.config.val_fraction * len(numbers)))
        order = _fixed_permutation(len(numbers), _CARVE_STREAM)
        in_val = np.isin(train.images, numbers[order[:held_out]])
        return {
            "train": train.select(np.flatnonzero(~in_val)),
            "val": train.select(np.flatnonzero(in_val)),
            "test": parts["test"],
        }

    def _refuse_unknown(self, unknown: Sequence[str]) -> None:
        """Refuse training answers that a dataset's own list lacks; a folder has no such list."""
        if not self.in_folder:
            raise UserError(
                f"Dataset '{self.dataset}' is damaged: its training answers {unknown} are not in "
                f"its own list of answers."
            )

    def _part(self, split: str) -> str:
        """Return the part of the source that a split's rows come from."""
        return "train" if split == "val" and "val" not in self.source.parts else split

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
        return Split(
            units={
                "image": image_unit.astype(np.int64),
                "text": np.asarray([text_unit[q] for q in part.questions], dtype=np.int64),
            },
            targets=self._targets(part),
            columns={
                "question": part.questions,
                "question_type": part.kinds,
                **part.extra,
                "answer": part.answers,
                "answers": part.given or [(answer,) for answer in part.answers],
                "image": [self.source.image_name(self._part(name), int(n)) for n in part.images],
            },
        )

    def _targets(self, part: Rows) -> dict[str, np.ndarray]:
        ids = {answer: i for i, answer in enumerate(self.answers)}
        answer = [ids.get(a, OUTSIDE_VOCABULARY) for a in part.answers]
        targets = {"answer": np.asarray(answer, dtype=np.int64)}
        if part.given is not None:
            targets |= _soft_targets(part.given, ids)
        return targets

    def reads(self, backbone: Backbone) -> tuple[str, ...]:
        """Return the streams that no other reads: a joint one, or the towers of a dual encoder.

        Raises:
            UserError: they do not read both the image and the question.
        """
        return last_streams(backbone, self.card.name, CARD.modalities)

    def build_head(
        self,
        backbone: Backbone,
        embedded: Sequence[str] = (),  # noqa: ARG002 - it compares none
    ) -> nn.Module:
        """Return the answer head for the width of the streams that it reads."""
        streams = self.reads(backbone)
        width = sum(backbone.spec(name).width for name in streams)
        mean = self.config.pooling == "mean"
        return AnswerHead(streams, width, len(self.answers), mean=mean)

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the cross-entropy over the answers, or the binary one of several annotators.

        The binary cross-entropy is summed over the answers: each is a question of its own, whose
        target is the VQA accuracy that the answer would have.

        Args:
            output: logits [B, A].
            targets: ``answer``, int64 [B]; answers outside the vocabulary teach nothing. Where
                there are annotators, ``answers``, int64 [B, K], and ``scores``, float32 [B, K].
        """
        logits = output.float()
        if "scores" not in targets:
            return F.cross_entropy(logits, targets["answer"], ignore_index=OUTSIDE_VOCABULARY)
        padded = logits.new_zeros(len(logits), 1 + logits.shape[1])  # column 0: outside
        padded.scatter_(1, targets["answers"] + 1, targets["scores"])
        loss = F.binary_cross_entropy_with_logits(logits, padded[:, 1:], reduction="sum")
        return loss / len(logits)

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
        blind = answers_by_words(asked, answers, test.columns["question"])
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

    def state(self) -> dict[str, Any]:
        """Return the vocabulary of answers."""
        return {"answers": list(self.answers)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over a vocabulary; the dataset's own is not looked for."""
        self.answers = tuple(state["answers"])

    def read_rows(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> SplitData:
        """Read rows of ``image`` and ``text``, images brought to the size of the dataset's."""
        return read_new_rows(rows, folder, (IMAGE, TEXT), self.source.image_size)

    def ranked(self, output: Tensor, top: int) -> list[list[Answer]]:
        """Return the most probable answers; see ``AnsweringTask.ranked``.

        Args:
            output: logits [B, A]; of equal ones the first comes first, as in ``predict``.
            top: number of answers.
        """
        return ranked_answers(output, self.answers, top)

    def _vqa_accuracy(self, predicted: list[str], split: Split) -> float:
        return mean_vqa_accuracy(predicted, split.columns["answers"])


def _soft_targets(given: Sequence[Sequence[str]], ids: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return each row's distinct answers within the vocabulary, and their VQA accuracy."""
    distinct = [sorted(set(map(normalize_answer, a)) & ids.keys()) for a in given]
    most = max(1, *(len(answers) for answers in distinct))
    targets = np.full((len(given), most), OUTSIDE_VOCABULARY, dtype=np.int64)
    scores = np.zeros((len(given), most), dtype=np.float32)
    for row, (answers, annotators) in enumerate(zip(distinct, given, strict=True)):
        targets[row, : len(answers)] = [ids[answer] for answer in answers]
        scores[row, : len(answers)] = [vqa_accuracy(answer, annotators) for answer in answers]
    return {"answers": targets, "scores": scores}


def _fixed_permutation(count: int, stream: int) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64([_SPLIT_SEED, stream]))
    return generator.permutation(count)


def _add_rows(fingerprint: Fingerprint, name: str, part: Rows) -> None:
    fingerprint.add(name.encode())
    for question, answer, number in zip(part.questions, part.answers, part.images, strict=True):
        fingerprint.add(f"{question}\t{answer}\t{number}".encode())


def _outside_vocabulary(splits: Mapping[str, Split]) -> list[str]:
    """Return a sentence for every split with answers that no prediction can equal."""
    counts = {
        name: int((split.targets["answer"] == OUTSIDE_VOCABULARY).sum())
        for name, split in splits.items()
    }
    return [
        f"{count} of {len(splits[name])} {name} answers are outside the vocabulary; no prediction "
        f"can equal them, and they stay in every denominator."
        for name, count in counts.items()
        if count
    ]
