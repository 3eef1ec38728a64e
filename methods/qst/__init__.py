"""Quantized side tuning (QST)."""

from pydantic import Field

from harness.cards import MethodCard, Published
from harness.registry import Config


class QstConfig(Config):
    """Settings of a ladder with low-rank downsamplers and vector gates."""

    reduction: int = Field(16, ge=1, description="r: the side width is the backbone's divided by r")
    rank: int = Field(16, ge=1, description="inner size of a downsampler")


CARD = MethodCard(
    name="qst",
    summary="A ladder with low-rank downsamplers, blended with the frozen output at the end.",
    source="Zhang et al., Quantized Side Tuning, ACL 2024",
    config=QstConfig,
    implementation="methods.qst.model:Qst",
    family="side",
    requires=frozenset({"taps"}),
    backbone_gradients=False,
    presets={"nf4": {}},
    settings={"nf4": {"backbone.quantize": "nf4", "backbone.quantize_embeddings": False}},
    train={"lr": 5e-4, "amp": "auto"},
    published={
        "t5-base": Published(values={"reduction": 8}, note="A port: the source adapts decoders."),
        "t5-large": Published(values={"reduction": 8}, note="A port: the source adapts decoders."),
    },
)
