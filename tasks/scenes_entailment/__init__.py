"""Sentences about drawn scenes: does a claim about one object follow from a caption?"""

from tasks.text.cards import Table, scenes_card

TABLE = Table(
    texts=(("caption",), ("claim",)),
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
    rows={"train": 6000, "dev": 1000},
    val="train",
)
CARD = scenes_card("entailment", "does a claim about one object follow from a caption?", TABLE)
