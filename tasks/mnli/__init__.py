"""MNLI: does a premise entail, contradict or leave open a hypothesis?"""

from tasks.text.cards import Table, glue_card

TABLE = Table(
    texts=(("sentence1", "premise"), ("sentence2", "hypothesis")),
    label=("gold_label", "label"),
    labels=("entailment", "neutral", "contradiction"),
    metrics=("accuracy",),
    rows={"train": 392702, "dev_matched": 9815, "dev_mismatched": 9832},
    val="dev_mismatched",
    keys=("premise:", "hypothesis"),
)
CARD = glue_card(
    name="mnli",
    summary="does a premise entail, contradict or leave open a hypothesis?",
    title="MNLI",
    table=TABLE,
    licence="OANC and Creative Commons parts",
    epochs=10,
)
