"""Does a claim about one object follow from a caption?"""

from tasks.scenes_entailment import CARD, TABLE
from tasks.text.scenes import ScenesTextTask


class ScenesEntailment(ScenesTextTask):
    """Does a claim about one object follow from a caption?"""

    card, table, kind = CARD, TABLE, "entailment"
