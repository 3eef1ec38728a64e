"""The numbers of the MP-ISMoE paper's tables, which are quoted and not measured."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published.csv")
PUBLISHED_UNIT = 1000 * 2**20
"""Bytes of what the literature prints as GB: ``max_memory_allocated() / 1024**2 / 1000``."""

BACKBONES = {
    "t5-base": "T5-base",
    "t5-large": "T5-large",
    "vse": "VSE-inf(BERT-base+ResNeXt101-32x8d-WSL)",
    "clip-vit-b32": "CLIP4Clip(CLIP-ViT-B/32)",
    "clip-vil": "CLIP-ViL",
    "mdetr": "MDETR(ResNet101+RoBERTa-base)",
}
"""Backbones as printed, by name here."""

_ROWS = {
    "full": ("Fully-FT", ""),
    "adapter": ("Adapter", ""),
    "lora": ("LoRA", ""),
    "bitfit": ("BitFit", ""),
    "prompt": ("Prompt", ""),
    "lst": ("LST", ""),
    "unipt": ("UniPT", ""),
    "sherl": ("SHERL", ""),
    "mp_ismoe": ("MP-ISMoE", "UniPT"),
    "mp_ismoe@sherl": ("MP-ISMoE", "SHERL"),
}
"""Method and host of the paper's rows, by name here."""

PRINTED = tuple(_ROWS)
_MAIN_TABLES = ("1", "2")
TABLES = {
    "table1": ("1",),
    "table2": ("2",),
    "table3": ("3",),
    "table4": ("4-top", "4-bottom"),
}
"""Parts of the paper's tables, as the file names them."""


@dataclass(frozen=True)
class PublishedValue:
    """One printed number.

    Attributes:
        table: part of a table, such as ``4-top``.
        method: the row, as printed.
        host: the side network that carries MP-ISMoE, as printed; empty for other rows.
        backbone: as printed.
        task: the paper's short name of the task.
        dataset: as printed; ``all`` and ``GLUE`` stand for the whole row.
        split: as printed; ``unspecified`` where the paper names none.
        metric: what is counted or scored.
        printed: the number with its digits.
        unit: ``M`` or ``%`` of parameters, ``GB`` of memory, or ``score``.
    """

    table: str
    method: str
    host: str
    backbone: str
    task: str
    dataset: str
    split: str
    metric: str
    printed: str
    unit: str

    @property
    def value(self) -> float:
        """The number."""
        return float(self.printed)

    @property
    def row(self) -> tuple[str, str, str]:
        """Backbone, method and host."""
        return (self.backbone, self.method, self.host)

    @property
    def column(self) -> tuple[str, str, str]:
        """Dataset, split and metric."""
        return (self.dataset, self.split, self.metric)


@cache
def published_values() -> tuple[PublishedValue, ...]:
    """Return every number of the four tables, in their order."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(
            PublishedValue(**{("printed" if k == "value" else k): v for k, v in row.items()})
            for row in csv.DictReader(file)
        )


def backbone_here(printed: str) -> str:
    """Return the name here of a backbone as the paper prints it."""
    return next(name for name, own in BACKBONES.items() if own == printed)


def published_memory(backbone: str, method: str) -> float | None:
    """Return the published training memory, in units of ``PUBLISHED_UNIT``; None where none is.

    Args:
        backbone: its name here.
        method: its name here; ``@published`` and ``@official`` do not count.
    """
    name, _, preset = method.partition("@")
    row = _ROWS.get(name if preset in ("published", "official") else method)
    return None if row is None else _training_memory().get((BACKBONES.get(backbone), *row))


@cache
def _training_memory() -> dict[tuple[str | None, str, str], float]:
    return {
        value.row: value.value
        for value in published_values()
        if value.metric == "memory_train" and value.table in _MAIN_TABLES
    }
