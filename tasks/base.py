"""The Task contract: data, head, loss, metrics and blind baselines.

A task knows nothing of backbones but the widths of the streams that its head reads; it keeps its
data raw (uint8 images, strings), and a backbone's processors turn them into inputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, StreamState, Text
from harness.errors import UserError
from harness.registry import Config


class Units(Protocol):
    """The distinct inputs of one modality: images or strings, by position."""

    def __len__(self) -> int: ...

    def take(self, units: np.ndarray) -> Any:
        """Return units by position: uint8 [n, H, W, 3] for images, a list of texts for text."""

    def read_ahead(self, parts: Sequence[np.ndarray]) -> None:
        """Take notice of the parts that ``take`` will be asked for next, in this order."""


class InMemory:
    """Units that need no reading ahead."""

    def read_ahead(self, parts: Sequence[np.ndarray]) -> None:
        """Do nothing; see ``Units``."""


@dataclass(frozen=True)
class Images(InMemory):
    """Images of one size, in memory: ``array`` is uint8 [n, H, W, 3]."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def take(self, units: np.ndarray) -> np.ndarray:
        """Return uint8 [len(units), H, W, 3]."""
        return self.array[units]


@dataclass(frozen=True)
class Texts(InMemory):
    """Distinct strings, or distinct pairs of strings."""

    strings: Sequence[Text]

    def __len__(self) -> int:
        return len(self.strings)

    def take(self, units: np.ndarray) -> list[Text]:
        """Return the strings, or pairs, at ``units``."""
        return [self.strings[int(i)] for i in units]


@dataclass(frozen=True)
class Chain:
    """The images of several sources, one after the other."""

    parts: Sequence[Units]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def take(self, units: np.ndarray) -> np.ndarray:
        """Return uint8 [len(units), H, W, 3]; all parts must have images of one size."""
        taken: np.ndarray | None = None
        for owner, rows, own in self._owned(units):
            images = self.parts[owner].take(own)
            if taken is None:
                taken = np.empty((len(units), *images.shape[1:]), dtype=np.uint8)
            taken[rows] = images
        assert taken is not None, "no units were asked for"
        return taken

    def read_ahead(self, parts: Sequence[np.ndarray]) -> None:
        """Tell each source what it will be asked for; see ``Units``."""
        wanted: dict[int, list[np.ndarray]] = {}
        for part in parts:
            for owner, _, own in self._owned(part):
                wanted.setdefault(owner, []).append(own)
        for owner, asked in wanted.items():
            self.parts[owner].read_ahead(asked)

    def _owned(self, units: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield each source's number, which of ``units`` are its own, and their positions in it."""
        ends = np.cumsum([len(part) for part in self.parts])
        owners = np.searchsorted(ends, units, side="right")
        for owner in np.unique(owners).tolist():
            rows = np.flatnonzero(owners == owner)
            yield owner, rows, units[rows] - (int(ends[owner - 1]) if owner else 0)


@dataclass(frozen=True)
class Split:
    """Rows of one split, as positions into the units.

    Attributes:
        units: by modality, int64 [rows]: the unit that a row reads; or [rows, K] where it reads
            several, such as a video's frames: states then have K rows for each.
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
class SplitData:
    """Splits, and the units that their rows read."""

    units: Mapping[str, Units]
    splits: Mapping[str, Split]


@dataclass(frozen=True)
class TaskData(SplitData):
    """A loaded dataset with splits ``train``, ``val`` and ``test``.

    Attributes:
        provenance: where it comes from.
        notices: what its user should know of it, one counted sentence each.
    """

    provenance: Provenance
    notices: Sequence[str] = ()


class Task(ABC):
    """A task with its data.

    Args:
        config: the task's configuration.
        dataset: name of one of the card's datasets.
        data_dir: folder given by the user, for datasets of source ``folder``.
        seed: seed of what the task draws itself (never of the split into train, val and test,
            which is fixed).

    Attributes:
        embeds: whether the head compares embeddings, and so takes streams that a method has
            brought to the embedding's width.
    """

    embeds: ClassVar[bool] = False

    @property
    def writes(self) -> bool:
        """Whether the backbone writes its answers, as its head, a ``Writer``, reads them."""
        return False

    def __init__(self, config: Config, dataset: str, data_dir: Path | None, seed: int) -> None:
        self.config = config
        self.dataset = dataset
        self.data_dir = data_dir
        self.seed = seed

    @classmethod
    def layout(cls, dataset: str) -> Mapping[str, str]:  # noqa: ARG003 - most are read from none
        """Return what the folder of a dataset holds, by file; empty if it is read from none."""
        return {}

    @classmethod
    def write_example(cls, dataset: str, folder: Path) -> None:  # noqa: ARG003
        """Write a tiny folder of a dataset's layout, which ``load`` can read.

        Raises:
            UserError: the dataset is read from no folder.
        """
        raise UserError(f"Dataset '{dataset}' is read from no folder, so there is none to show.")

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
    def build_head(self, backbone: Backbone, embedded: Sequence[str] = ()) -> nn.Module:
        """Return the head: a module from states to predictions, ``head(states) -> Tensor``.

        Args:
            backbone: the model whose states it reads.
            embedded: streams whose states a method has brought to the embedding's width; empty
                but for a task that ``embeds``.
        """

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

    def state(self) -> dict[str, Any]:
        """Return what an output means nothing without, JSON-ready: a vocabulary of answers.

        It is saved with an adaptation. By default there is nothing.
        """
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most have none
        """Take over what ``state`` returned, in place of what the dataset would give.

        Raises:
            KeyError: something is missing in it.
        """


class Writer(Protocol):
    """What the head of a task that ``writes`` offers beside its forward pass.

    Attributes:
        tokens: int64 [texts, N], everything that may be written, padded.
        pad: id of the padding, from which writing starts.
    """

    tokens: Tensor
    pad: int

    def score(self, output: Tensor) -> Tensor:
        """Return the scores [B, N, V] of the next token for decoder states [B, N, D]."""

    def read(self, written: Tensor) -> Tensor:
        """Return what each row of tokens [B, N] says: a number of a text [B]."""


class Answer(NamedTuple):
    """One answer to a row; ``answer`` is JSON-ready."""

    answer: Any
    probability: float


NEW = "new"
"""The split of rows that no dataset holds."""


class AnsweringTask(Task):
    """A task that also answers about new rows. Its dataset need not be there for it."""

    @abstractmethod
    def read_rows(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> SplitData:
        """Read what new rows name.

        Args:
            rows: JSON objects, one a row.
            folder: what relative paths in them start from.

        Returns:
            Units, and the split ``NEW`` without targets.

        Raises:
            RowError: with all that is wrong with any row.
        """

    @abstractmethod
    def ranked(self, output: Tensor, top: int) -> list[list[Answer]]:
        """Return for each row of the head's ``output`` its ``top`` answers, the best first.

        The first is what ``predict`` keeps; there are fewer where there are no more answers.
        """


def ranked_answers(output: Tensor, names: Sequence[str], top: int) -> list[list[Answer]]:
    """Return the most probable names of each row; of equal ones the first comes first.

    Args:
        output: logits [B, A].
        names: of the A answers.
        top: number of answers.
    """
    ids = output.argsort(dim=-1, descending=True, stable=True)[:, :top]  # [B, top]
    probabilities = output.float().softmax(-1).gather(-1, ids)
    return [
        [Answer(names[i], p) for i, p in zip(*row, strict=True)]
        for row in zip(ids.tolist(), probabilities.tolist(), strict=True)
    ]


States = Mapping[str, StreamState]


def to_tensors(targets: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, Tensor]:
    """Return the targets of ``rows`` as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(v[rows])) for name, v in targets.items()}
