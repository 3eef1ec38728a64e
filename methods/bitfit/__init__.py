"""BitFit."""

from pydantic import Field

from harness.cards import MethodCard, Published
from harness.costs import Cost
from harness.registry import Config
from methods.official import glue


class BitFitConfig(Config):
    """Settings of bias-only training."""

    add: bool = Field(
        True,
        description="add biases, from 0, to linear layers and norms of the blocks and to the "
        "output layer where the backbone has none",
    )


CARD = MethodCard(
    name="bitfit",
    summary="Only the biases train; where the backbone has none, they are added.",
    source="Ben Zaken, Ravfogel and Goldberg, BitFit, ACL 2022",
    config=BitFitConfig,
    implementation="methods.bitfit.model:BitFit",
    family="peft",
    requires=frozenset({"in_place"}),
    backbone_gradients=True,
    train={"lr": 3e-4},
    published={"t5-base": Published(trainable="0.13 %")},
    trains="The biases of the blocks' linear layers and norms, and that of the output layer.",
    gradient="It runs through every block, down to the first bias; weights get none.",
    cost=Cost(
        trainable="L*(S*(7*d + d_ff) + 5*C*d) + V",
        saved="B*T*L*((S + C)*(4*d + h*T) + S*(d + d_ff))",
    ),
    official=glue("learning rate 3e-4"),
    deviations=(
        "Where linear layers and norms have no bias, as in T5, one is added that starts at 0; the "
        "norms that end a T5's stacks get none, as in LST's repository.",
        "Tables of relative positions stay frozen, though their names contain the word bias.",
        "The norm of a BERT's embedding, which is in no block, keeps its bias.",
    ),
)
