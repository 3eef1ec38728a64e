"""QNLI out of a folder of tab-separated files."""

from tasks.qnli import CARD, TABLE
from tasks.text.base import FolderTextTask


class Qnli(FolderTextTask):
    """Does a sentence answer a question?"""

    card, table, title = CARD, TABLE, "QNLI"
