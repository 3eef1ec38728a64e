"""Are at least half of the colours in a caption warm?"""

from tasks.scenes_warmth import CARD, TABLE
from tasks.text.scenes import ScenesTextTask


class ScenesWarmth(ScenesTextTask):
    """Are at least half of the colours in a caption warm?"""

    card, table, kind = CARD, TABLE, "warmth"
