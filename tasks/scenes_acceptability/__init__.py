"""Sentences about drawn scenes: is a caption grammatical?"""

from tasks.text.cards import Table, scenes_card

TABLE = Table(
    texts=(("sentence",),),
    labels=("broken", "acceptable"),
    metrics=("matthews",),
    rows={"train": 6000, "dev": 1000},
    val="train",
)
CARD = scenes_card("acceptability", "is a caption grammatical?", TABLE)
