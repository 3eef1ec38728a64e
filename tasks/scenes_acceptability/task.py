"""Is a caption grammatical?"""

from tasks.scenes_acceptability import CARD, TABLE
from tasks.text.scenes import ScenesTextTask


class ScenesAcceptability(ScenesTextTask):
    """Is a caption grammatical?"""

    card, table, kind = CARD, TABLE, "acceptability"
