"""SST-2: is a film review positive?"""

from tasks.text.cards import Table, glue_card

TABLE = Table(
    texts=(("sentence",),),
    labels=("0", "1"),
    metrics=("accuracy",),
    rows={"train": 67349, "dev": 872},
    val="train",
)
CARD = glue_card(
    name="sst2",
    summary="is a film review positive?",
    title="SST-2",
    table=TABLE,
    licence="free for research (Stanford Sentiment Treebank)",
    epochs=10,
)
