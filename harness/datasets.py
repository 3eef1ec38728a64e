"""A task's datasets, looked at without training: their layout, and whether all can be read."""

from pathlib import Path
from typing import Any

from harness.cards import TASKS, DatasetCard
from harness.data import sequential
from harness.errors import UserError, did_you_mean
from harness.hub import data_folder

CHUNK = 64


def describe_datasets(task: str, dataset: str | None) -> list[dict[str, Any]]:
    """Return what is known of a task's datasets, or of one of them, with its folder's layout.

    Raises:
        UserError: a name is unknown.
    """
    chosen = _datasets(task, dataset)
    implementation = TASKS.load(task)
    return [
        {**card.model_dump(), "layout": dict(implementation.layout(card.name))} for card in chosen
    ]


def write_example(task: str, dataset: str | None, folder: Path) -> None:
    """Write a tiny folder of a dataset's layout; of the first one that is read from a folder.

    Raises:
        UserError: a name is unknown, no dataset is read from a folder, or it holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--example {folder}: the folder holds something already; name a new one.")
    cards = [card for card in _datasets(task, dataset) if card.source == "folder"]
    cards.sort(key=lambda card: not card.part)  # an example is always a part
    if not cards:
        raise UserError(f"Task '{task}' reads no dataset from a folder.")
    TASKS.load(task).write_example(cards[0].name, folder)


def check_dataset(task: str, dataset: str | None, data_dir: Path | None) -> dict[str, Any]:
    """Load a dataset and take every unit of it; return what there is.

    Raises:
        UserError: a name is unknown, or data are missing or damaged.
    """
    card = _datasets(task, dataset)[0]
    config = TASKS.card(task).config()
    data = TASKS.load(task)(config, card.name, data_folder(data_dir), 0).load()
    for units in data.units.values():
        parts = list(sequential(len(units), CHUNK))
        units.read_ahead(parts)
        for part in parts:
            units.take(part)
    provenance = data.provenance
    return {
        "dataset": provenance.name,
        "revision": provenance.revision,
        "licence": provenance.licence,
        "rows": dict(provenance.rows),
        "distinct": {modality: len(units) for modality, units in data.units.items()},
        "fingerprint": provenance.fingerprint,
        "notices": list(data.notices),
    }


def _datasets(task: str, dataset: str | None) -> list[DatasetCard]:
    """Return a task's datasets, the first one its default, or the one that was named."""
    cards = TASKS.card(task).datasets
    if dataset is None:
        return list(cards)
    found = [card for card in cards if card.name == dataset]
    if not found:
        known = did_you_mean(dataset, [card.name for card in cards])
        raise UserError(f"Unknown dataset '{dataset}' of task '{task}'.{known}")
    return found
