"""SHERL."""

from typing import Literal

from pydantic import Field

from harness.cards import Growth, MethodCard, Published
from harness.costs import Cost
from harness.registry import Config
from methods.official import glue, hosts
from methods.side.config import T5_BASE_LAYERS, T5_LARGE_LAYERS, WIDTH, Layers, Width
from methods.side.cost import SIDE_WIDTH, TAPS


class SherlConfig(Config):
    """Settings of the early route; the late route is the backbone's own last block."""

    reduction: int = Field(8, ge=1, description="r: the side width is the backbone's divided by r")
    width: Width = WIDTH
    layers: Layers = Field(
        None,
        description="hidden states to read: 0 is the embedding, i the output of block i; null for "
        "all. A stream that ends in its own last block leaves out that block's output",
    )
    gate_temperature: float = Field(
        0.1, gt=0, description="T: the last hidden state joins with weight tanh(a / T), a from 0"
    )
    down: Literal["gated", "linear"] = Field(
        "gated",
        description="how a hidden state comes to the side width: gated (T5, CLIP-ViL), or by a "
        "linear layer and a norm (VSE, MDETR)",
    )
    sum_mlp: bool = Field(
        False, description="whether the sum goes through an m-d-m network and a norm (MDETR)"
    )
    output_norm: bool = Field(
        False, description="whether a norm follows the way back to backbone width (VSE, MDETR)"
    )
    map_pooling: Literal["none", "max_avg"] = Field(
        "none",
        description="what follows the last block on maps: nothing, or the sum of their maximum and "
        "mean over 2 x 2 places (VSE)",
    )
    output: Literal["state", "embedding"] = Field(
        "state",
        description="what is adapted: a stream's hidden states, which then cross its last block, "
        "or the frozen embedding, which one token changes (CLIP4Clip: no late route)",
    )
    salient_gate: bool = Field(
        True,
        description="whether the salient token of every hidden state has a trained gate "
        "(output=embedding)",
    )


CARD = MethodCard(
    name="sherl",
    summary="Tiers of hidden states without redundancy enter the backbone's own last block.",
    source="Diao et al., SHERL: Synthesizing High Accuracy and Efficient Memory, ECCV 2024",
    config=SherlConfig,
    implementation="methods.sherl.model:Sherl",
    family="side",
    requires=frozenset({"taps", "late_block"}),
    backbone_gradients=False,
    train={"lr": 3e-3},
    published={
        "t5-base": Published(values={"layers": (0, *T5_BASE_LAYERS)}, trainable="0.85 %"),
        "t5-large": Published(
            values={"layers": (0, *T5_LARGE_LAYERS[:-1], 23, 24)}, trainable="0.64 %"
        ),
        "clip-vil": Published(
            values={"reduction": 2},
            trainable="13.0 M",
            note="The released code has 0.38 M more than the figure printed.",
        ),
        "mdetr": Published(
            values={
                "layers": {"encoder": (1, 2, 4, 6), "decoder": (1, 3, 4, 5)},
                "reduction": 2,
                "down": "linear",
                "sum_mlp": True,
                "output_norm": True,
            },
            trainable="0.7 M",
        ),
        "vse": Published(
            values={
                "width": 512,
                "down": "linear",
                "output_norm": True,
                "map_pooling": "max_avg",
            },
            trainable="11.3 M",
            note="The released code has 0.23 M fewer than the figure printed.",
        ),
        "clip-vit-b32": Published(values={"output": "embedding", "width": 512}, trainable="9.6 M"),
    },
    grows=Growth(field="width", step=8),
    trains="For each stream that is read or crossed a gated downsampler for every hidden state, "
    "the weights of the tiers, an upsampler and, where norms come first, a new norm.",
    gradient="It runs through the last block of the streams that the head reads, whose weights get "
    "none, and stays in the early routes below.",
    cost=Cost(
        trainable="(S*K - R)*(d*m + 2*m**2 + 3*m) + S*(d*m + d + m + 2 + p*g*d)",
        saved="B*T*((S*K - R)*(d + 6*m) + R*(5*d + d_ff + h*T) + C*(4*d + h*T) + S*p*(3 - g)*d)",
        symbols={**SIDE_WIDTH, **TAPS},
        note="K counts the output of the last block too, which a stream that ends in that block "
        "does not read.",
    ),
    official={
        **glue(
            "learning rate 3e-3, r = 8 (by the published count), the embedding and the hidden "
            "states of LST",
            seeds="0, 1, 2, 3",
        ),
        **hosts(
            "weight decay 1e-2, m = 512",
            "weight decay 0.01 on MSR-VTT and 0 on MSVD, m = 512",
            "learning rate 5e-4 on VQAv2 and 1e-4 on GQA, m = 384",
            "no weight decay, m = 128",
        ),
    },
    deviations=(
        "Dropout of the frozen backbone is off, the late block included, and the early route has "
        "none; on VSE the source drops 0.1 behind its norm.",
    ),
)
