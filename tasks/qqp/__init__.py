"""QQP: do two questions ask the same?"""

from tasks.text.cards import Table, glue_card

TABLE = Table(
    texts=(("question1",), ("question2",)),
    label=("is_duplicate", "label"),
    labels=("0", "1"),
    metrics=("accuracy", "f1"),
    rows={"train": 363846, "dev": 40430},
    val="train",
)
CARD = glue_card(
    name="qqp",
    summary="do two questions ask the same?",
    title="QQP",
    table=TABLE,
    licence="Quora terms of service (not commercial)",
    epochs=10,
)
