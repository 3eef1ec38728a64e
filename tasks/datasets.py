"""A task whose card lists its datasets, some of them read from a folder in the common layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.cards import TaskCard
from harness.errors import UserError, did_you_mean
from harness.registry import Config
from tasks.base import Task
from tasks.folder import write_example


class DatasetTask(Task):
    """A task with a dataset of its card.

    Args:
        config: the task's configuration.
        dataset: name of one of the card's datasets.
        data_dir: folder of a dataset that is read from one, else None.
        seed: of what the task draws itself.

    Raises:
        UserError: there is no such dataset, or a folder is given that it does not read.

    Attributes:
        card: the task's card.
        dataset_card: that of the dataset.
        folder_layout: what a folder holds, by file.
        folder_example: the rows of a tiny folder, by name of the file.
    """

    card: ClassVar[TaskCard]
    folder_layout: ClassVar[Mapping[str, str]]
    folder_example: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]]

    def __init__(self, config: Config, dataset: str, data_dir: Path | None, seed: int) -> None:
        super().__init__(config, dataset, data_dir, seed)
        cards = {card.name: card for card in self.card.datasets}
        if dataset not in cards:
            raise UserError(
                f"Unknown dataset '{dataset}' of task '{self.card.name}'."
                f"{did_you_mean(dataset, cards)}"
            )
        self.dataset_card = cards[dataset]
        if data_dir is not None and not self.in_folder:
            raise UserError(
                f"--data-dir '{data_dir}': dataset '{dataset}' is read from no folder "
                f"(source: {self.dataset_card.source}). Leave --data-dir out."
            )

    @property
    def in_folder(self) -> bool:
        """Whether the dataset is read from a folder."""
        return self.dataset_card.source == "folder"

    @classmethod
    def layout(cls, dataset: str) -> Mapping[str, str]:
        """Return what the folder of a dataset holds, by file; see ``Task.layout``."""
        return cls.folder_layout if cls._reads_folder(dataset) else super().layout(dataset)

    @classmethod
    def write_example(cls, dataset: str, folder: Path) -> None:
        """Write a tiny folder of a dataset's layout; see ``Task.write_example``."""
        if not cls._reads_folder(dataset):
            super().write_example(dataset, folder)
        write_example(folder, cls.folder_example)

    @classmethod
    def _reads_folder(cls, dataset: str) -> bool:
        return any(c.name == dataset and c.source == "folder" for c in cls.card.datasets)
