"""BitFit."""

from pydantic import Field

from harness.cards import MethodCard, Published
from harness.registry import Config


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
)
