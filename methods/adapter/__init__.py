"""Houlsby adapters."""

from pydantic import Field

from harness.cards import MethodCard, Published
from harness.registry import Config


class AdapterConfig(Config):
    """Settings of bottleneck adapters."""

    reduction: int = Field(
        16, ge=1, description="the bottleneck is the backbone's width divided by this"
    )
    train_norms: bool = Field(True, description="whether the backbone's norms train too")


CARD = MethodCard(
    name="adapter",
    summary="A residual bottleneck after every attention and feed-forward sub-layer.",
    source="Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019",
    config=AdapterConfig,
    implementation="methods.adapter.model:Adapters",
    family="peft",
    requires=frozenset({"in_place"}),
    backbone_gradients=True,
    train={"lr": 3e-4},
    published={"t5-base": Published(trainable="1.63 %")},
)
