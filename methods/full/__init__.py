"""Full fine-tuning: everything trains."""

from harness.cards import MethodCard, Published
from harness.costs import Cost, Symbol
from harness.registry import Config
from methods.official import glue


class FullConfig(Config):
    """Full fine-tuning has no settings of its own."""


CARD = MethodCard(
    name="full",
    summary="Full fine-tuning: every weight of the backbone trains.",
    source="baseline",
    config=FullConfig,
    implementation="methods.full.model:Full",
    family="full",
    requires=frozenset({"in_place"}),
    backbone_gradients=True,
    full_precision=True,
    train={"lr": 3e-4},
    rates=(1e-5, 1e-3),
    published={"t5-base": Published(trainable="100 %"), "t5-large": Published()},
    trains="Every weight of the backbone, embeddings, norms and tables of positions included. "
    "Streams that a task does not read are counted, and get no gradient.",
    gradient="It runs through every block, down to the embeddings.",
    cost=Cost(
        trainable="E*d + L*((S + C)*a + S*f) + S*(g*d + q*h)",
        saved="B*T*L*((S + C)*(6*d + h*T) + S*(2*d + 2*d_ff))",
        symbols={
            "a": Symbol(
                meaning="parameters of an attention with its norm", value="4*d**2 + 4*b*d + g*d"
            ),
            "f": Symbol(
                meaning="parameters of a feed-forward network with its norm",
                value="2*d*d_ff + b*(d + d_ff) + g*d",
            ),
        },
        note="Gated feed-forward networks, and an output layer that is not the embedding (T5 "
        "v1.1), come on top.",
    ),
    official=glue("learning rate 3e-4"),
)
