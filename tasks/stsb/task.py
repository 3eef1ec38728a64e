"""STS-B out of a folder of tab-separated files."""

from tasks.stsb import CARD, TABLE
from tasks.text.base import FolderTextTask


class Stsb(FolderTextTask):
    """How similar are two sentences, from 0 to 5?"""

    card, table, title = CARD, TABLE, "STS-B"
