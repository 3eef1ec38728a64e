"""CoLA out of a folder of tab-separated files."""

from tasks.cola import CARD, TABLE
from tasks.text.base import FolderTextTask


class Cola(FolderTextTask):
    """Is a sentence grammatical?"""

    card, table, title = CARD, TABLE, "CoLA"
