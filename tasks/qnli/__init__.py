"""QNLI: does a sentence answer a question?"""

from tasks.text.cards import Table, glue_card

TABLE = Table(
    texts=(("question",), ("sentence",)),
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
    rows={"train": 104743, "dev": 5463},
    val="train",
)
CARD = glue_card(
    name="qnli",
    summary="does a sentence answer a question?",
    title="QNLI",
    table=TABLE,
    licence="CC BY-SA 4.0 (SQuAD)",
    epochs=10,
)
