"""Houlsby adapters."""

from pydantic import Field

from harness.cards import Growth, MethodCard, Published
from harness.costs import Cost, Symbol
from harness.registry import Config
from methods.official import glue


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
    grows=Growth(field="reduction", rising=False),
    trains="Two bottlenecks in every block, x + up(gelu(down(x))), and the backbone's norms.",
    gradient="It runs through every block, down to the first norm; other weights get none.",
    cost=Cost(
        trainable="2*S*L*(2*d*m + m + d) + ((2*S + C)*L + S)*g*d",
        saved="B*T*L*((S + C)*(4*d + h*T) + S*(3*d + d_ff + 4*m) + (2*S + C)*(2 - g)*d)",
        symbols={
            "r": Symbol(meaning="reduction of the width", field="reduction"),
            "m": Symbol(meaning="width of a bottleneck", value="d // r"),
        },
    ),
    official={
        **glue("learning rate 3e-4, r = 16, no task's name before the text"),
        "VQA, GQA, NLVR2 and COCO captions on VL-T5": "learning rate 3e-4, r = 4, one adapter for "
        "all tasks",
    },
    deviations=(
        "The cross-attention of a T5's decoder has no adapter, as in LST's repository.",
        "First weights are normal with deviation 0.01, and not truncated.",
    ),
)
