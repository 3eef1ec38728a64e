"""Prompt tuning."""

from pydantic import Field

from harness.cards import MethodCard, Published
from harness.registry import Config


class PromptConfig(Config):
    """Settings of trained vectors before the text."""

    tokens: int = Field(100, ge=1, description="P: vectors put before the tokens of every text")


CARD = MethodCard(
    name="prompt",
    summary="Trained vectors before the input of every text stream; nothing else trains.",
    source="Lester, Al-Rfou and Constant, The Power of Scale for Prompt Tuning, EMNLP 2021",
    config=PromptConfig,
    implementation="methods.prompt.model:Prompt",
    family="peft",
    requires=frozenset({"in_place", "prompt"}),
    backbone_gradients=True,
    train={"lr": 0.3},
    published={
        "t5-base": Published(
            trainable="0.03 %", note="The published memory is at batch 50 with accumulation 2."
        )
    },
)
