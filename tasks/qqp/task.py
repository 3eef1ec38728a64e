"""QQP out of a folder of tab-separated files."""

from tasks.qqp import CARD, TABLE
from tasks.text.base import FolderTextTask


class Qqp(FolderTextTask):
    """Do two questions ask the same?"""

    card, table, title = CARD, TABLE, "QQP"
