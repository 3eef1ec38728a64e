"""Full fine-tuning: everything trains."""

from harness.cards import MethodCard, Published
from harness.registry import Config


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
    train={"lr": 3e-4},
    published={"t5-base": Published(trainable="100 %"), "t5-large": Published()},
)
