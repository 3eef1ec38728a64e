"""Classification, or rating, of sentences and sentence pairs."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import Backbone, Text
from harness.cards import TaskCard
from harness.errors import UserError
from tasks.base import (
    Answer,
    AnsweringTask,
    Provenance,
    Split,
    SplitData,
    States,
    TaskData,
    Texts,
    ranked_answers,
)
from tasks.blind import answers_by_words, majority_answer
from tasks.metrics import text_scores
from tasks.rows import TEXT, TEXT_PAIR, read_new_rows
from tasks.sources import Fingerprint
from tasks.streams import mean_token, own_stream
from tasks.subsets import fixed_subset
from tasks.text.cards import MINI, GlueConfig, SubsetConfig, Table
from tasks.text.folder import TextFolder, folder_layout, write_example
from tasks.text.rows import TextRows, make_splits
from tasks.text.writing import PAD, WritingHead, label_ids, label_texts, source_text, writing_stream


class SentenceHead(nn.Module):
    """A linear layer on the mean of a text's tokens, or on its salient token.

    Args:
        stream: the stream that it reads.
        width: size D of its states.
        outputs: number of classes, or 1 for a number.
        mean: whether it reads the mean.
    """

    def __init__(self, stream: str, width: int, outputs: int, *, mean: bool) -> None:
        super().__init__()
        self.stream = stream
        self.mean = mean
        self.output = nn.Linear(width, outputs)

    def forward(self, states: States) -> Tensor:
        """Return the logits [B, C], or numbers [B, 1]."""
        state = states[self.stream]
        return self.output(mean_token(state) if self.mean else state.salient)


class TextTask(AnsweringTask):
    """One label, or one number, a sentence or a pair of sentences.

    Args:
        config: which rows are used.
        dataset: name of one of the card's datasets.
        data_dir: folder with the dataset's files.
        seed: unused; subsets and splits are fixed.
    """

    config: SubsetConfig
    card: ClassVar[TaskCard]
    table: ClassVar[Table]

    @abstractmethod
    def read(self, fingerprint: Fingerprint) -> Mapping[str, TextRows]:
        """Return the rows of every file of the table.

        Args:
            fingerprint: takes in everything that is read.

        Raises:
            UserError: data are missing or damaged.
        """

    def load(self, limit: int | None = None) -> TaskData:
        """Read the rows and make the splits."""
        fingerprint = Fingerprint()
        files = self.read(fingerprint)
        standard = isinstance(self.config, GlueConfig) and self.config.splits == "standard"
        parts = make_splits(files, self.table, standard=standard)
        wanted = {"train": self.config.train_rows, "val": self.config.val_rows, "test": None}
        chosen = {
            name: part.select(fixed_subset(name, len(part), (wanted[name], limit)))
            for name, part in parts.items()
        }
        texts = sorted({text for part in chosen.values() for text in part.texts})
        unit_of = {text: unit for unit, text in enumerate(texts)}
        units = {"text": Texts(texts)}
        if self.writes:
            sources = [source_text(self.card.name, self.table, text) for text in texts]
            units = {"text": Texts(sources), "target": Texts(label_texts(self.table))}
        content = fingerprint.hexdigest()
        for name, part in chosen.items():
            fingerprint.add(f"{name}\t{','.join(part.ids)}".encode())
        dataset = next(card for card in self.card.datasets if card.name == self.dataset)
        return TaskData(
            units=units,
            splits={name: self._split(part, unit_of) for name, part in chosen.items()},
            provenance=Provenance(
                name=self.dataset,
                source=dataset.source,
                revision=f"sha256:{content[:16]}",
                licence=dataset.licence,
                rows={name: len(part) for name, part in chosen.items()},
                fingerprint=fingerprint.hexdigest(),
            ),
        )

    def _split(self, part: TextRows, unit_of: Mapping[Text, int]) -> Split:
        numbers = part.labels / self.table.highest
        label = part.labels.astype(np.int64) if self.table.labels else numbers.astype(np.float32)
        units = {"text": np.asarray([unit_of[text] for text in part.texts], dtype=np.int64)}
        if self.writes:
            units["target"] = label_ids(self.table, label)
        return Split(
            units=units,
            targets={"label": label},
            columns={"id": part.ids, "text": part.texts},
        )

    @property
    def writes(self) -> bool:
        """Whether a decoder writes the label."""
        return self.config.form == "text"

    def reads(self, backbone: Backbone) -> tuple[str, ...]:
        """Return the first stream that reads texts alone, or the one that writes.

        Raises:
            UserError: there is none.
        """
        if self.writes:
            return (writing_stream(backbone, self.card.name),)
        return (own_stream(backbone, self.card.name, "text"),)

    def build_head(
        self,
        backbone: Backbone,
        embedded: Sequence[str] = (),  # noqa: ARG002 - it compares none
    ) -> nn.Module:
        """Return a linear layer on the mean of the tokens or the salient one, or what writes."""
        (stream,) = self.reads(backbone)
        if self.writes:
            return WritingHead(backbone, stream, label_texts(self.table))
        return SentenceHead(
            stream,
            backbone.spec(stream).width,
            len(self.table.labels) or 1,
            mean=self.config.pooling == "mean",
        )

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the cross-entropy over the labels, or the squared error of numbers in [0, 1].

        Args:
            output: [B, C] logits, [B, 1] numbers, or [B, N, V] scores of written tokens.
            targets: ``label``, int64 [B] or float32 [B]; of what is written ``labels`` [B, N].
        """
        if self.writes:
            tokens = targets["labels"].flatten()
            return F.cross_entropy(output.flatten(0, 1).float(), tokens, ignore_index=PAD)
        if self.table.labels:
            return F.cross_entropy(output.float(), targets["label"])
        return F.mse_loss(output.float()[:, 0], targets["label"])

    def predict(self, output: Tensor) -> Tensor:
        """Return the ids [B] of the most probable labels, or the numbers [B].

        Args:
            output: [B, C] logits or [B, 1] numbers; or [B] what was read of written texts.
        """
        if self.writes:
            tenths = output.float() / (10 * self.table.highest)
            return output if self.table.labels else torch.where(output < 0, output.float(), tenths)
        return output.argmax(dim=-1) if self.table.labels else output.float()[:, 0]

    def metrics(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        """Return the task's metrics.

        Args:
            predictions: int64 or float32 [rows].
            split: the rows that were predicted.
        """
        return self._scores(predictions, split.targets["label"])

    def _scores(self, predictions: np.ndarray, expected: np.ndarray) -> dict[str, float]:
        return text_scores(self.table.metrics, predictions, expected)

    def baselines(self, data: TaskData) -> dict[str, float]:
        """Return the primary metric on test of predictors without any pretraining.

        ``majority`` always says the most frequent label, or the mean. ``bag_of_words`` is naive
        Bayes over words and pairs of neighbouring words; ``word_overlap`` rates a pair by the
        share of its words that both texts have.
        """
        train, test = data.splits["train"], data.splits["test"]
        known, asked = train.targets["label"], test.targets["label"]
        if not self.table.labels:
            overlap = np.asarray([word_overlap(text) for text in test.columns["text"]])
            guesses = {"majority": np.full(len(asked), known.mean()), "word_overlap": overlap}
        else:
            labels = [str(label) for label in known]
            words = [_one_string(text) for text in train.columns["text"]]
            by_words = answers_by_words(
                words, labels, [_one_string(text) for text in test.columns["text"]]
            )
            guesses = {
                "majority": np.full(len(asked), int(majority_answer(labels))),
                "bag_of_words": np.asarray([int(label) for label in by_words]),
            }
        return {
            name: self._scores(guess, asked)[self.card.primary] for name, guess in guesses.items()
        }

    def describe(self, predictions: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """Return one row a text: what it says, its label and the predicted one."""
        return [
            {
                "row": row,
                "id": split.columns["id"][row],
                "text": split.columns["text"][row],
                "label": self._named(split.targets["label"][row]),
                "prediction": self._named(prediction),
            }
            for row, prediction in enumerate(predictions)
        ]

    def read_rows(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> SplitData:
        """Read rows of ``text`` and, where the task is about pairs, ``text_pair``."""
        return read_new_rows(rows, folder, (TEXT, TEXT_PAIR)[: len(self.table.texts)])

    def ranked(self, output: Tensor, top: int) -> list[list[Answer]]:
        """Return the most probable labels; a number is one answer, of probability 1.

        Args:
            output: logits [B, C], or numbers [B, 1].
            top: number of answers.
        """
        if self.table.labels:
            return ranked_answers(output, self.table.labels, top)
        return [[Answer(self._named(number), 1.0)] for number in self.predict(output).tolist()]

    def _named(self, value: Any) -> str | float | None:
        if self.writes and value < 0:
            return None
        if self.table.labels:
            return self.table.labels[int(value)]
        return round(float(value) * self.table.highest, 4)


class FolderTextTask(TextTask):
    """A task whose rows lie in tab-separated files.

    Attributes:
        title: name of the folder that may hold them.
    """

    title: ClassVar[str]

    @classmethod
    def layout(cls, dataset: str) -> Mapping[str, str]:
        """Return the files of the folder; see ``Task.layout``."""
        return folder_layout(cls.table, whole=not dataset.endswith(MINI))

    @classmethod
    def write_example(cls, dataset: str, folder: Path) -> None:
        """Write a tiny folder; it is a part of a dataset, ``NAME-mini``."""
        if not dataset.endswith(MINI):
            raise UserError(
                f"Dataset '{dataset}' is whole or is another one: an example of its files is of "
                f"'{dataset}{MINI}'."
            )
        write_example(cls.table, folder)

    def read(self, fingerprint: Fingerprint) -> Mapping[str, TextRows]:
        """Return the rows of every file; see ``TextTask.read``."""
        folder = TextFolder(self.dataset, self.title, self.table, self.data_dir)
        return folder.read(fingerprint)


def word_overlap(text: Text) -> float:
    """Return the share of a pair's distinct words that both texts have."""
    first, second = (set(part.lower().split()) for part in _parts(text))
    return len(first & second) / len(first | second)


def _parts(text: Text) -> Sequence[str]:
    return (text, text) if isinstance(text, str) else text


def _one_string(text: Text) -> str:
    return text if isinstance(text, str) else " <and> ".join(text)
