"""RTE out of a folder of tab-separated files."""

from tasks.rte import CARD, TABLE
from tasks.text.base import FolderTextTask


class Rte(FolderTextTask):
    """Does a premise entail a hypothesis?"""

    card, table, title = CARD, TABLE, "RTE"
