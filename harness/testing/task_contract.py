"""What every task must do, on a few rows and a tiny backbone."""

import json
import math
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.backbones.base import StreamState
from harness.cards import TASKS, TaskCard
from harness.errors import UserError
from harness.testing.backbones import TinyBackbone, TinyConfig
from harness.testing.cards import check_card
from tasks.base import AnsweringTask, Task, TaskData, to_tensors

SPLITS = ("train", "val", "test")


class TaskContract:
    """Laws of a task.

    Attributes:
        name: its registered name.
        dataset: name of one of its datasets; None for the default.
        rows: rows of a split to load.
    """

    name: str
    dataset: str | None = None
    rows: int = 24

    @property
    def card(self) -> TaskCard:
        """The task's card."""
        return TASKS.card(self.name)

    @pytest.fixture
    def task(self) -> Task:
        """The task, built once."""
        return _loaded(self.name, self._dataset, self.rows)[0]

    @pytest.fixture
    def data(self) -> TaskData:
        """Its data, loaded once."""
        return _loaded(self.name, self._dataset, self.rows)[1]

    @pytest.fixture
    def backbone(self) -> TinyBackbone:
        """A tiny backbone that reads images and texts."""
        return TinyBackbone.build(TinyConfig())

    def _states(
        self, task: Task, data: TaskData, backbone: TinyBackbone, rows: np.ndarray
    ) -> dict[str, StreamState]:
        """Return what the head reads of training rows."""
        inputs: dict[str, Tensor] = {}
        for modality, units in data.splits["train"].units.items():
            raw = data.units[modality].take(units[rows].reshape(-1))
            inputs.update(backbone.processors()[modality](raw))
        return backbone.encode_all(task.reads(backbone), inputs)

    @property
    def _dataset(self) -> str:
        return self.dataset or self.card.datasets[0].name

    def test_card_describes_itself(self) -> None:
        """Texts, fields, metrics, datasets and recipes are complete."""
        check_card(TASKS, self.name)
        assert self.card.primary in self.card.metrics
        assert self.card.datasets
        assert {"quick", "default", "full"} <= set(self.card.recipes)
        assert all(d.licence and d.origin for d in self.card.datasets)

    def test_splits_are_complete_and_limited(self, data: TaskData) -> None:
        """Every row has its units, targets and columns."""
        assert set(SPLITS) == set(data.splits)
        assert set(data.units) == set(self.card.modalities)
        for split in data.splits.values():
            assert 0 < len(split) <= self.rows
            for modality, units in split.units.items():
                assert units.dtype == np.int64
                assert len(units) == len(split)
                assert units.min() >= 0
                assert units.max() < len(data.units[modality])
            for values in (*split.targets.values(), *split.columns.values()):
                assert len(values) == len(split)

    def test_provenance_counts_the_rows(self, data: TaskData) -> None:
        """Provenance says where the data come from and how many rows there are."""
        assert dict(data.provenance.rows) == {n: len(s) for n, s in data.splits.items()}
        assert len(data.provenance.fingerprint) == 64
        assert data.provenance.licence

    def test_loading_twice_gives_the_same_data(self, data: TaskData) -> None:
        """The fingerprint stands for all that a run reads."""
        again = _build(self.name, self._dataset).load(limit=self.rows)
        assert again.provenance.fingerprint == data.provenance.fingerprint
        for name, split in data.splits.items():
            for target, values in split.targets.items():
                assert np.array_equal(again.splits[name].targets[target], values)

    def test_head_learns_and_predicts(
        self, task: Task, data: TaskData, backbone: TinyBackbone
    ) -> None:
        """The head reads the states it asked for; the loss is finite and has gradients."""
        split = data.splits["train"]
        rows = np.arange(min(4, len(split)))
        head = task.build_head(backbone)
        output = head(self._states(task, data, backbone, rows))
        loss = task.loss(output, to_tensors(split.targets, rows))
        assert loss.shape == ()
        assert math.isfinite(loss.item())
        loss.backward()
        assert all(p.grad is not None for p in head.parameters())
        with torch.no_grad():
            predictions = task.predict(output.detach())
        assert len(predictions) == len(rows)
        scores = task.metrics(predictions.cpu().numpy(), split.select(rows))
        assert self.card.primary in scores
        assert set(scores) <= set(self.card.metrics)
        assert all(math.isfinite(v) for v in scores.values())
        described = task.describe(predictions.cpu().numpy(), split.select(rows))
        assert len(json.loads(json.dumps(described))) == len(rows)

    def test_its_state_replaces_the_dataset(self, task: Task, backbone: TinyBackbone) -> None:
        """With its state a task builds the same head and says the same of an output."""
        state = json.loads(json.dumps(task.state()))
        other = _build(self.name, self._dataset)
        other.load_state(state)
        assert other.state() == state
        shapes, again = (
            {name: value.shape for name, value in t.build_head(backbone).state_dict().items()}
            for t in (task, other)
        )
        assert again == shapes

    def test_answers_are_ranked(self, task: Task, data: TaskData, backbone: TinyBackbone) -> None:
        """Answers to rows come best first, with probabilities, and JSON-ready."""
        if not isinstance(task, AnsweringTask):
            return
        states = self._states(task, data, backbone, np.arange(4))
        with torch.no_grad():
            output = task.build_head(backbone)(states)
        whole, two = task.ranked(output, 10**6), task.ranked(output, 2)
        assert [answers[:2] for answers in whole] == two
        assert json.loads(json.dumps(two)) == [[list(answer) for answer in row] for row in two]
        for answers in whole:
            chances = [answer.probability for answer in answers]
            assert chances == sorted(chances, reverse=True)
            assert 0 <= chances[-1] <= chances[0] <= sum(chances) <= 1 + 1e-5

    def test_baselines_are_scores(self, task: Task, data: TaskData) -> None:
        """Predictors that do not use the whole input are scored like models."""
        baselines = task.baselines(data)
        assert baselines
        assert all(math.isfinite(v) for v in baselines.values())


def _build(name: str, dataset: str) -> Task:
    card = next(card for card in TASKS.card(name).datasets if card.name == dataset)
    folder = _example_folder(name, dataset) if card.source == "folder" else None
    task = TASKS.load(name)(TASKS.card(name).config(), dataset, folder, 0)
    assert isinstance(task, Task)
    return task


@cache
def _example_folder(name: str, dataset: str) -> Path:
    """Return a folder of the dataset's layout; it lives as long as the process."""
    holder = tempfile.TemporaryDirectory()
    _FOLDERS.append(holder)
    try:
        TASKS.load(name).write_example(dataset, Path(holder.name))
    except UserError as refusal:
        pytest.skip(str(refusal))
    return Path(holder.name)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _loaded(name: str, dataset: str, rows: int) -> tuple[Task, TaskData]:
    task = _build(name, dataset)
    return task, task.load(limit=rows)
