"""Splits bound to a backbone: from row numbers to batches on a device."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.backbones.base import Backbone, Inputs
from methods.base import Batch
from tasks.base import Split, SplitData, to_tensors


class Examples:
    """Splits as a backbone reads them.

    Strings are tokenised once; a batch is padded to its own longest text, or to the dataset's
    where the largest batch is wanted. Images are converted batch by batch.

    Args:
        data: the splits.
        backbone: gives the processors.
        device: where batches go.
    """

    def __init__(self, data: SplitData, backbone: Backbone, device: torch.device) -> None:
        self.data = data
        self.device = device
        self.processors = backbone.processors()
        self._texts: dict[str, Inputs] = {}
        if "text" in data.units:
            table = data.units["text"]
            self._texts["text"] = self.processors["text"](table.take(np.arange(len(table))))

    def cut_texts(self, backbone: Backbone) -> list[str]:
        """Return a sentence if distinct texts are longer than ``backbone`` reads."""
        table = self.data.units.get("text")
        cut = sum(backbone.cuts(table.take(np.arange(len(table))))) if table else 0
        if not cut:
            return []
        return [
            f"{cut} of {len(self.data.units['text'])} texts are longer than the backbone reads; "
            f"they are cut."
        ]

    def split(self, name: str) -> Split:
        """Return the rows of split ``name``."""
        return self.data.splits[name]

    def unit_inputs(
        self, modality: str, units: np.ndarray, *, longest: bool = False
    ) -> dict[str, Tensor]:
        """Return the inputs of one modality for the given units (int64 positions).

        Args:
            modality: its name.
            units: positions.
            longest: whether texts are padded to the dataset's longest.
        """
        if modality in self._texts:
            index = torch.from_numpy(units)
            inputs: Inputs = {k: v[index] for k, v in self._texts[modality].items()}
            if not longest:
                inputs = trimmed(inputs)
        else:
            inputs = self.processors[modality](self.data.units[modality].take(units))
        return {name: move(value, self.device) for name, value in inputs.items()}

    def read_ahead(self, split: str, parts: Sequence[np.ndarray]) -> None:
        """Take notice of the rows that ``batch`` will be asked for next.

        Args:
            split: their split.
            parts: int64 positions, one array a batch.
        """
        for modality, units in self.split(split).units.items():
            self.read_units_ahead(modality, [units[rows].reshape(-1) for rows in parts])

    def read_units_ahead(self, modality: str, parts: Sequence[np.ndarray]) -> None:
        """Take notice of the units that ``unit_inputs`` will be asked for next."""
        if modality not in self._texts:
            self.data.units[modality].read_ahead(parts)

    def targets(self, split: str, rows: np.ndarray) -> dict[str, Tensor]:
        """Return the targets of ``rows``."""
        tensors = to_tensors(self.split(split).targets, rows)
        return {name: move(value, self.device) for name, value in tensors.items()}

    def alike(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield ``rows`` in groups whose inputs have the same shapes: no batch of them is padded.

        Args:
            split: their split.
            rows: int64 positions.
        """
        groups: dict[tuple[torch.Size, ...], list[int]] = {}
        for row in rows:
            inputs = self.batch(split, row[None]).inputs
            groups.setdefault(tuple(t.shape for t in inputs.values()), []).append(int(row))
        yield from map(np.asarray, groups.values())

    def batch(
        self,
        split: str,
        rows: np.ndarray,
        *,
        inputs: bool = True,
        longest: bool = False,
        leave_out: Sequence[str] = (),
    ) -> Batch:
        """Return ``rows`` of a split.

        Args:
            split: its name.
            rows: int64 positions.
            inputs: whether the inputs are wanted, or the targets alone.
            longest: whether texts are padded to the dataset's longest.
            leave_out: modalities that are not wanted: what is to be written.
        """
        merged: dict[str, Tensor] = {}
        if inputs:
            for modality, units in self.split(split).units.items():
                if modality in leave_out:
                    continue
                found = self.unit_inputs(modality, units[rows].reshape(-1), longest=longest)
                merged.update(found)
        targets = self.targets(split, rows)
        if "labels" in merged:  # what a decoder is to write
            targets["labels"] = merged["labels"]
        return Batch(merged, targets, torch.from_numpy(rows))


def trimmed(inputs: Inputs) -> Inputs:
    """Return texts without the columns that are padding in every row.

    Args:
        inputs: ``attention_mask`` long [n, N], True first, and others of that shape.
    """
    mask = inputs.get("attention_mask")
    if mask is None:
        return inputs
    width = int(mask.sum(1).max())
    return {k: v[:, :width] if v.shape == mask.shape else v for k, v in inputs.items()}


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device``, copied asynchronously from pinned memory on CUDA."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True)
class Order:
    """The order of the training rows: a function of seed and epoch alone.

    Args:
        rows: number of training rows.
        batch_size: rows of one step; the last, incomplete batch of an epoch is dropped unless it
            is the only one.
        seed: the run's seed.
    """

    rows: int
    batch_size: int
    seed: int

    @property
    def rows_of_a_step(self) -> int:
        """Rows of every step."""
        return min(self.rows, self.batch_size)

    @property
    def steps(self) -> int:
        """Steps of one epoch."""
        return max(1, self.rows // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield the row numbers of each step of ``epoch``."""
        permutation = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        for step in range(self.steps):
            yield permutation[step * self.batch_size : (step + 1) * self.batch_size]


def sequential(rows: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yield all rows in order, ``batch_size`` at a time."""
    for start in range(0, rows, batch_size):
        yield np.arange(start, min(start + batch_size, rows))


def used_units(splits: Mapping[str, Split], modality: str) -> np.ndarray:
    """Return the sorted distinct units of a modality that any split reads."""
    return np.unique(np.concatenate([s.units[modality].reshape(-1) for s in splits.values()]))
