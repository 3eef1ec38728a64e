"""The numbers of the MP-ISMoE paper's tables, which are quoted and not measured."""

import csv
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published.csv")
PUBLISHED_UNIT = 1000 * 2**20
"""Bytes of what the literature prints as GB: ``max_memory_allocated() / 1024**2 / 1000``."""

_HOSTS = {
    "t5-base": "T5-base",
    "t5-large": "T5-large",
    "vse": "VSE-inf(BERT-base+ResNeXt101-32x8d-WSL)",
    "clip-vit-b32": "CLIP4Clip(CLIP-ViT-B/32)",
    "clip-vil": "CLIP-ViL",
    "mdetr": "MDETR(ResNet101+RoBERTa-base)",
}
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


def published_memory(backbone: str, method: str) -> float | None:
    """Return the published training memory, in units of ``PUBLISHED_UNIT``; None where none is.

    Args:
        backbone: its name here.
        method: its name here; ``@published`` and ``@official`` do not count.
    """
    name, _, preset = method.partition("@")
    row = _ROWS.get(name if preset in ("published", "official") else method)
    return None if row is None else _training_memory().get((_HOSTS.get(backbone), *row))


@cache
def _training_memory() -> dict[tuple[str | None, str, str], float]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return {
            (row["backbone"], row["method"], row["host"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["metric"] == "memory_train" and row["table"] in _MAIN_TABLES
        }
