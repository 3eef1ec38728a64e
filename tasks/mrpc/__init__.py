"""MRPC: do two sentences say the same?"""

from tasks.text.cards import Table, glue_card

TABLE = Table(
    texts=(("sentence1", "#1 String"), ("sentence2", "#2 String")),
    label=("label", "Quality"),
    labels=("0", "1"),
    metrics=("accuracy", "f1"),
    rows={"train": 3668, "dev": 408},
    val="half",
)
CARD = glue_card(
    name="mrpc",
    summary="do two sentences say the same?",
    title="MRPC",
    table=TABLE,
    licence="Microsoft research terms",
    epochs=20,
)
