"""Labelled texts, and the splits that are made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from harness.backbones.base import Text
from tasks.text.cards import Table

SHUFFLE_SEED = 42  # of the LST paper's halves and validation rows
HELD_OUT = 1000  # training rows that become validation


@dataclass(frozen=True)
class TextRows:
    """Labelled texts.

    Attributes:
        texts: one text, or one pair of texts, a row.
        labels: float64 [rows]: numbers, or positions among the table's labels.
        ids: where each row comes from, ``FILE:NUMBER``.
    """

    texts: Sequence[Text]
    labels: np.ndarray
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: np.ndarray) -> "TextRows":
        """Return the rows at these positions (int64)."""
        return TextRows(
            [self.texts[i] for i in rows], self.labels[rows], [self.ids[i] for i in rows]
        )


def make_splits(
    files: Mapping[str, TextRows], table: Table, *, standard: bool
) -> dict[str, TextRows]:
    """Return ``train``, ``val`` and ``test``.

    Source: the splits of the LST paper (Sung et al., NeurIPS 2022), whose shuffles are PyTorch's
    of seed 42.

    Args:
        files: the rows of every file, training first, then the (matched) development rows.
        table: says where validation comes from.
        standard: whether the development file stays whole, as test.
    """
    train, dev = (files[name] for name in table.files[:2])
    if table.val == "half" and not standard:
        order = _shuffled(len(dev))
        half = len(dev) // 2
        return {"train": train, "val": dev.select(order[:half]), "test": dev.select(order[half:])}
    if table.val == "dev_mismatched" and not standard:
        return {"train": train, "val": files[table.val], "test": dev}
    order = _shuffled(len(train))
    held_out = min(HELD_OUT, len(train) // 10 or 1)
    parts = {"train": np.sort(order[held_out:]), "val": np.sort(order[:held_out])}
    return {**{name: train.select(rows) for name, rows in parts.items()}, "test": dev}


def _shuffled(count: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(SHUFFLE_SEED)
    return torch.randperm(count, generator=generator).numpy()
