"""Ladder side-tuning (LST)."""

from typing import Literal

from pydantic import Field

from harness.cards import Growth, MethodCard, Published
from harness.costs import Cost, Symbol
from methods.official import glue
from methods.side.config import T5_BASE_LAYERS, T5_LARGE_LAYERS, SideConfig
from methods.side.cost import BLOCK, SIDE_WIDTH


class LstConfig(SideConfig):
    """Settings of a ladder side network."""

    block_norm: Literal["stream", "pre", "post"] = Field(
        "stream",
        description="where a side block's norms stand: where the backbone has them, before its "
        "sub-layers, or after",
    )
    sampler_bias: bool = Field(
        True, description="whether down- and upsamplers have a bias (CLIP-ViL's have none)"
    )
    skipped_gates: bool = Field(
        False,
        description="whether layers that are not read keep a gate, which is counted and never used",
    )
    gate_temperature: float = Field(
        0.1, gt=0, description="T: a ladder's gate is sigmoid(a / T), with a learned from 0"
    )
    side_init: Literal["random", "fisher"] = Field(
        "random",
        description="first weights of the side blocks: drawn, or the slices of the backbone's that "
        "matter most by Fisher information (text streams only)",
    )
    fisher_rows: int = Field(
        1024, ge=1, description="training rows that measure Fisher information, one at a time"
    )


_T5 = {"train_norms": "none", "skipped_gates": True, "side_init": "fisher"}

CARD = MethodCard(
    name="lst",
    summary="A small transformer beside the frozen backbone, fed by a ladder from every block.",
    source="Sung, Cho and Bansal, LST: Ladder Side-Tuning, NeurIPS 2022",
    config=LstConfig,
    implementation="methods.lst.model:Lst",
    family="side",
    requires=frozenset({"taps"}),
    backbone_gradients=False,
    train={"lr": 3e-3},
    published={
        "t5-base": Published(
            values=_T5 | {"layers": T5_BASE_LAYERS, "reduction": 8}, trainable="1.74 %"
        ),
        "t5-large": Published(
            values=_T5 | {"layers": T5_LARGE_LAYERS, "reduction": 8}, trainable="1.23 %"
        ),
        "clip-vil": Published(
            values={"train_norms": "none", "sampler_bias": False}, trainable="13.4 M"
        ),
    },
    grows=Growth(field="width", step=48),  # a multiple of 4, 8, 12 and 16 heads
    trains="For each stream downsamplers, gates and a transformer of width m, and for each that "
    "the head reads an upsampler and a copy of its final norm.",
    gradient="It stays in the ladder: hidden states enter it without a graph.",
    cost=Cost(
        trainable="S*(d*m + m + K*(d*m + m + 1) + q*h + p*g*m) + K*((S + C)*a + S*f) "
        "+ R*(d*m + d + g*d)",
        saved="B*T*(S*(K + 1)*d + K*((S + C)*7*m + S*(4*m + 2*m_ff + z*h*T)) + R*(d + m))",
        symbols={
            **SIDE_WIDTH,
            **BLOCK,
            "K": Symbol(
                meaning="side blocks of a stream: hidden states but the embedding that are read",
                field="layers",
                value="L",
            ),
        },
        note="Where m is no multiple of the heads, fewer are used, and tables of positions shrink.",
    ),
    official={
        **glue(
            "learning rate 3e-3, r = 8, first weights by Fisher information of 1,024 rows; three "
            "of twelve blocks of each stack skipped on T5-base, every second on T5-large"
        ),
        "VQA and GQA on CLIP-ViL": "learning rate 5e-4, r = 4, samplers without bias, random first "
        "weights; 5 epochs, batch 1,024",
        "VQA, GQA, NLVR2 and COCO captions on VL-T5": "learning rate 3e-3, weight decay 3e-2, "
        "r = 4; batch 300, 20 epochs, warm-up over 10 %, gradient norm at most 5",
    },
    deviations=(
        "Dropout of the frozen backbone is off, and the side network has none; in the released "
        "code both are on.",
        "By default side blocks start at random, every block is read, and a copy of the stream's "
        "final norm trains behind the upsampler; lst@published has the source's choices.",
        "A stream that is made of other streams' tokens adds their side outputs to its first side "
        "state.",
    ),
)
