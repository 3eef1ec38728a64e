"""How many objects do two captions share, from 0 to 5?"""

from tasks.scenes_similarity import CARD, TABLE
from tasks.text.scenes import ScenesTextTask


class ScenesSimilarity(ScenesTextTask):
    """How many objects do two captions share, from 0 to 5?"""

    card, table, kind = CARD, TABLE, "similarity"
