"""Side-tuning."""

from typing import Literal

from pydantic import Field

from harness.cards import Growth, MethodCard, Published
from harness.costs import Cost, Symbol
from harness.registry import Config
from methods.official import glue
from methods.side.cost import BLOCK, REDUCED


class SideTuningConfig(Config):
    """Settings of a side network that is merged once, at the end."""

    reduction: int = Field(4, ge=1, description="r: the side width is the backbone's divided by r")
    depth: int | None = Field(
        None, ge=1, description="side blocks of every stream; null for as many as the backbone has"
    )
    merge: Literal["blend", "sum", "product", "film", "mlp"] = Field(
        "blend",
        description="how base and side join: a base + (1 - a) side with a from 0.5, base + side, "
        "base (1 + side), a FiLM of the base by the side, or base + MLP(base) + side; the last two "
        "start as the sum",
    )
    temperature: float = Field(
        1.0, gt=0, description="T of the blend: a = sigmoid(alpha / T), with alpha learned from 0"
    )


CARD = MethodCard(
    name="side_tuning",
    summary="A small network reads the embedding; its output is merged with the base's at the end.",
    source="Zhang et al., Side-Tuning: A Baseline for Network Adaptation, ECCV 2020",
    config=SideTuningConfig,
    implementation="methods.side_tuning.model:SideTuning",
    family="side",
    requires=frozenset({"taps"}),
    backbone_gradients=False,
    train={"lr": 3e-3},
    published={
        "t5-base": Published(
            values={"reduction": 8, "temperature": 0.1},
            note="The source counts 1,771,799 more: downsamplers and gates that get no gradient.",
        )
    },
    grows=Growth(field="reduction", rising=False),
    trains="A transformer of width m on each stream's embedding, and for each stream that the head "
    "reads an upsampler and the weight alpha of the blend.",
    gradient="It stays in the side network, from the blend down to its first layer.",
    cost=Cost(
        trainable="S*(d*m + m + q*h + p*g*m) + D*((S + C)*a + S*f) + R*(d*m + d + 1)",
        saved="B*T*(S*d + D*((S + C)*7*m + S*(2*m + 2*m_ff + z*h*T)) + R*(2*d + m))",
        symbols={
            **REDUCED,
            **BLOCK,
            "D": Symbol(meaning="side blocks of a stream", field="depth", value="L"),
        },
        note="Where m is no multiple of the heads, fewer are used, and tables of positions shrink.",
    ),
    official={
        "iCIFAR on ResNet-44": "Adam at 1e-3 without weight decay, batch 128, gradient norm at "
        "most 1; the side network, four convolutions, distilled from the base",
        "Taskonomy on ResNet-50": "Adam at 1e-4, weight decay 2e-6 but none on alpha, batch 32; a "
        "side network of five convolutions",
        **glue("in LST's repository: learning rate 3e-3, r = 8, T = 0.1, first weights by Fisher"),
    },
    deviations=(
        "The side network is a transformer, as in LST's repository, and not a convolutional one.",
        "Its first weights are random, and not distilled from the base.",
        "It reads the frozen embedding, and not the raw input: side networks run on stored states.",
    ),
)
