"""The Task contract: data, head, loss, metrics and blind baselines.

A task knows nothing of backbones but the widths of the streams that its head reads; it keeps its
data raw (uint8 images, strings), and a backbone's processors turn them into inputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, StreamState
from harness.registry import Config


class Units(Protocol):
    """The distinct inputs of one modality: images or strings, by position."""

    def __len__(self) -> int: ...

    def take(self, units: np.ndarray) -> Any:
        """Return units by position: uint8 [n, H, W, 3] for images, a list of strings for text."""


@dataclass(frozen=True)
class Images:
    """Images of one size, in memory: ``array`` is uint8 [n, H, W, 3]."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def take(self, units: np.ndarray) -> np.ndarray:
        """Return uint8 [len(units), H, W, 3]."""
        return self.array[units]


@dataclass(frozen=True)
class Texts:
    """Distinct strings."""

    strings: Sequence[str]

    def __len__(self) -> int:
        return len(self.strings)

    def take(self, units: np.ndarray) -> list[str]:
        """Return the strings at ``units``."""
        return [self.strings[int(i)] for i in units]


@dataclass(frozen=True)
class Split:
    """Rows of one split, as positions into the units.

    Attributes:
        units: by modality, int64 [rows]: the unit that a row reads.
        targets: by name, array [rows, ...]: what loss and metrics read.
        columns: by name, one value a row: ids and groups for reports (``question_type``).
    """

    units: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.units.values())))

    def select(self, rows: np.ndarray) -> "Split":
        """Return the split made of ``rows`` (int64 positions) alone."""
        return Split(
            units={k: v[rows] for k, v in self.units.items()},
            targets={k: v[rows] for k, v in self.targets.items()},
            columns={k: [v[int(i)] for i in rows] for k, v in self.columns.items()},
        )


@dataclass(frozen=True)
class Provenance:
    """Where data come from; written into the Record.

    Attributes:
        rows: number of rows by split.
        fingerprint: sha256 over everything that the run reads.
    """

    name: str
    source: str
    revision: str
    licence: str
    rows: Mapping[str, int]
    fingerprint: str


@dataclass(frozen=True)
class TaskData:
    """A loaded dataset with splits ``train``, ``val`` and ``test``."""

    units: Mapping[str, Units]
    splits: Mapping[str, Split]
    provenance: Provenance


class Task(ABC):
    """A task with its data.

    Args:
        config: the task's configuration.
        dataset: name of one of the card's datasets.
        data_dir: folder given by the user, for datasets of source ``folder``.
        seed: seed of what the task draws itself (never of the split into train, val and test,
            which is fixed).
    """

    def __init__(self, config: Config, dataset: str, data_dir: Path | None, seed: int) -> None:
        self.config = config
        self.dataset = dataset
        self.data_dir = data_dir
        self.seed = seed

    @abstractmethod
    def load(self, limit: int | None = None) -> TaskData:
        """Load the data; ``limit`` keeps the first rows of a fixed permutation of each split.

        Raises:
            UserError: data are missing or damaged; the message says what was looked for and how
                to get it.
        """

    @abstractmethod
    def reads(self, backbone: Backbone) -> tuple[str, ...]:
        """Return the streams that the head reads."""

    @abstractmethod
    def build_head(self, backbone: Backbone) -> nn.Module:
        """Return the head: a module from states to predictions, ``head(states) -> Tensor``."""

    @abstractmethod
    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss of the head's ``output``."""

    @abstractmethod
    def predict(self, output: Tensor) -> Tensor:
        """Return what is kept of the head's ``output`` [B, ...] for each row (CPU-sized)."""

    @abstractmethod
    def metrics(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        """Return all metrics, as fractions, of the predictions for all rows of ``split``."""

    @abstractmethod
    def baselines(self, data: TaskData) -> dict[str, float]:
        """Return the primary metric on test of predictors that do not use the whole input."""

    @abstractmethod
    def describe(self, predictions: np.ndarray, split: Split) -> list[dict[str, Any]]:
        """Return one JSON-ready dict a row: what was asked, expected and predicted."""


States = Mapping[str, StreamState]


def to_tensors(targets: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, Tensor]:
    """Return the targets of ``rows`` as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(v[rows])) for name, v in targets.items()}
