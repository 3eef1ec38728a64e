"""Prompt tuning."""

from pydantic import Field

from harness.cards import Growth, MethodCard, Published
from harness.costs import Cost, Symbol
from harness.registry import Config
from methods.official import glue


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
    modalities=("text",),
    train={"lr": 0.3},
    rates=(0.03, 1.0),
    published={
        "t5-base": Published(
            trainable="0.03 %", note="The published memory is at batch 50 with accumulation 2."
        )
    },
    grows=Growth(field="tokens"),
    trains="P vectors before the embedded tokens of every text.",
    gradient="It runs through every block of the text streams and of those that read them, down to "
    "the vectors.",
    cost=Cost(
        trainable="X*P*d",
        saved="B*L*(X*(T + P)*(5*d + d_ff + h*(T + P)) + (S - X)*T*(5*d + d_ff + h*T) "
        "+ C*T*(4*d + h*(T + P)))",
        symbols={"P": Symbol(meaning="vectors before a text", field="tokens")},
    ),
    official=glue("learning rate 0.3, batch 50 with accumulation 2 in place of 100"),
    deviations=(
        "The vectors start as the first embeddings of the loaded weights; the T5 code of LST's "
        "repository copies them before it loads any, when they may be random.",
        "Every text stream has vectors of its own; the source has one encoder.",
        "Its row in the MP-ISMoE paper cites prefix tuning, which adds vectors in every block; the "
        "code behind that row adds them at the input, as here.",
    ),
)
