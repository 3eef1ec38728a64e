"""Quantized side tuning (QST)."""

from pydantic import Field

from harness.cards import Growth, MethodCard, Published
from harness.costs import Cost, Symbol
from harness.registry import Config
from methods.side.cost import BLOCK, REDUCED


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
    grows=Growth(field="reduction", rising=False),
    trains="For each stream low-rank downsamplers, vector gates and a transformer of width m, and "
    "for each that the head reads an upsampler and the vector gate of the blend.",
    gradient="It stays in the ladder: hidden states enter it without a graph.",
    cost=Cost(
        trainable="S*(L*(d*w + w*m + 3*m) + q*h + g*m) + L*((S + C)*a + S*f) + R*(d*m + 2*d)",
        saved="B*T*(S*(L + 1)*(d + 2*w + m) + L*((S + C)*7*m + S*(4*m + 2*m_ff + z*h*T)) "
        "+ R*(2*d + m))",
        symbols={
            **REDUCED,
            "w": Symbol(meaning="inner size of a downsampler", field="rank"),
            **BLOCK,
        },
        note="Where m is no multiple of the heads, fewer are used, and tables of positions shrink.",
    ),
    official={
        "GLUE on LLaMA-2 and OPT": "r = 16, rank 16; learning rate 5e-4, 4e-4 on MRPC, QNLI and "
        "STS-B; 7 epochs, batch 4, weight decay 0.01, warm-up over 6 %, then linear decay; bf16, "
        "NF4 backbone with double quantisation",
        "instructions (OASST1) on LLaMA-2 70B": "learning rate 1e-4, constant; 1,875 steps, "
        "accumulation 16, gradient norm at most 0.3; paged AdamW",
    },
    deviations=(
        "The source adapts decoder-only language models; this is a port to any streams, with the "
        "backbone's own kind of blocks.",
        "The backbone's precision is a setting of its own: qst@nf4 has the source's, without "
        "double quantisation.",
        "The gate of the blend trains. In the released code, on a GPU, it is a plain tensor that "
        "no optimizer sees, and stays at its start of 0.731.",
    ),
)
