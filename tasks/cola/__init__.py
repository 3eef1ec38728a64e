"""CoLA: is a sentence grammatical?"""

from tasks.text.cards import Table, glue_card

TABLE = Table(
    texts=(("sentence",),),
    labels=("0", "1"),
    metrics=("matthews",),
    rows={"train": 8551, "dev": 1043},
    val="half",
    headerless=("source", "label", "original_mark", "sentence"),
)
CARD = glue_card(
    name="cola",
    summary="is a sentence grammatical?",
    title="CoLA",
    table=TABLE,
    licence="quoted from published linguistics; research use",
    epochs=20,
)
