"""Sentences about drawn scenes: how many objects do two captions share, from 0 to 5?"""

from tasks.text.cards import Table, scenes_card

TABLE = Table(
    texts=(("first",), ("second",)),
    highest=5.0,
    metrics=("pearson", "spearman"),
    rows={"train": 6000, "dev": 1000},
    val="train",
)
CARD = scenes_card("similarity", "how many objects do two captions share, from 0 to 5?", TABLE)
