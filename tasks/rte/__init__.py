"""RTE: does a premise entail a hypothesis?"""

from tasks.text.cards import Table, glue_card

TABLE = Table(
    texts=(("sentence1",), ("sentence2",)),
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
    rows={"train": 2490, "dev": 277},
    val="half",
)
CARD = glue_card(
    name="rte",
    summary="does a premise entail a hypothesis?",
    title="RTE",
    table=TABLE,
    licence="research use",
    epochs=20,
)
