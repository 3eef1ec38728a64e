"""Sentences about drawn scenes: are at least half of the colours in a caption warm?"""

from tasks.text.cards import Table, scenes_card

TABLE = Table(
    texts=(("sentence",),),
    labels=("cold", "warm"),
    metrics=("accuracy",),
    rows={"train": 6000, "dev": 1000},
    val="train",
)
CARD = scenes_card("warmth", "are at least half of the colours in a caption warm?", TABLE)
