"""MNLI out of a folder of tab-separated files."""

from tasks.mnli import CARD, TABLE
from tasks.text.base import FolderTextTask


class Mnli(FolderTextTask):
    """Does a premise entail, contradict or leave open a hypothesis?"""

    card, table, title = CARD, TABLE, "MNLI"
