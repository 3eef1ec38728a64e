"""Side-tuning."""

from pydantic import Field

from harness.cards import MethodCard, Published
from harness.registry import Config


class SideTuningConfig(Config):
    """Settings of a side network that is merged once, at the end."""

    reduction: int = Field(4, ge=1, description="r: the side width is the backbone's divided by r")
    depth: int | None = Field(
        None, ge=1, description="side blocks of every stream; null for as many as the backbone has"
    )
    temperature: float = Field(
        1.0, gt=0, description="T: the blend is sigmoid(alpha / T), with alpha learned from 0"
    )


CARD = MethodCard(
    name="side_tuning",
    summary="A small network reads the raw input; a learned weight blends both outputs.",
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
)
