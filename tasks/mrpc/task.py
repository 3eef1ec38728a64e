"""MRPC out of a folder of tab-separated files."""

from tasks.mrpc import CARD, TABLE
from tasks.text.base import FolderTextTask


class Mrpc(FolderTextTask):
    """Do two sentences say the same?"""

    card, table, title = CARD, TABLE, "MRPC"
