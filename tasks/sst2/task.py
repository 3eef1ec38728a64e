"""SST-2 out of a folder of tab-separated files."""

from tasks.sst2 import CARD, TABLE
from tasks.text.base import FolderTextTask


class Sst2(FolderTextTask):
    """Is a film review positive?"""

    card, table, title = CARD, TABLE, "SST-2"
