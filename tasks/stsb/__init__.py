"""STS-B: how similar are two sentences, from 0 to 5?"""

from tasks.text.cards import Table, glue_card

TABLE = Table(
    texts=(("sentence1",), ("sentence2",)),
    label=("score", "label"),
    highest=5.0,
    metrics=("pearson", "spearman"),
    rows={"train": 5749, "dev": 1500},
    val="half",
)
CARD = glue_card(
    name="stsb",
    summary="how similar are two sentences, from 0 to 5?",
    title="STS-B",
    table=TABLE,
    licence="CC BY-SA and similar, by source",
    epochs=20,
)
