"""Universal parallel tuning (UniPT)."""

from typing import Literal

from pydantic import Field, model_validator

from harness.cards import Growth, MethodCard, Published
from harness.costs import Cost
from methods.official import glue, hosts
from methods.side.config import T5_BASE_LAYERS, T5_LARGE_LAYERS, SideConfig
from methods.side.cost import SIDE_WIDTH, TAPS


class UniptConfig(SideConfig):
    """Settings of a parallel side network."""

    projection: Literal["linear", "mlp"] = Field(
        "linear",
        description="what follows the aggregation: a linear layer and a norm (text and retrieval "
        "hosts), or an m-d-m network and a norm (CLIP-ViL, MDETR)",
    )
    output: Literal["state", "projected", "embedding"] = Field(
        "state",
        description="what is adapted: a stream's hidden states; the same, brought to the width of "
        "the retrieval embedding (VSE); or the frozen embedding, which one token changes "
        "(CLIP4Clip)",
    )
    crossing: Literal["meeting", "targets"] = Field(
        "meeting",
        description="how a stream reads another across: as one more target (T5), or added to its "
        "own targets, while a head reads the frozen state of what is crossed (MDETR)",
    )
    map_pooling: Literal["guided", "mean"] = Field(
        "guided",
        description="how the maps of a convolutional stream come to the last one's grid: weighted "
        "by likeness to it, or averaged",
    )

    activation: Literal["relu", "none"] = Field(
        "relu", description="what stands before the upsampler: a ReLU, or nothing (CLIP-ViL)"
    )

    @model_validator(mode="after")
    def _check_output(self) -> "UniptConfig":
        if self.output != "state" and self.join != "none":
            raise ValueError(
                f"join={self.join} lets in hidden states, but output={self.output} has none at "
                f"the backbone's width; set method.join=none"
            )
        return self


CARD = MethodCard(
    name="unipt",
    revision=2,
    summary="All taps meet the last one in parallel, without recurrence and without ladders.",
    source="Diao et al., UniPT: Universal Parallel Tuning, CVPR 2024",
    config=UniptConfig,
    implementation="methods.unipt.model:Unipt",
    family="side",
    requires=frozenset({"taps"}),
    backbone_gradients=False,
    train={"lr": 3e-3},
    published={
        "t5-base": Published(
            values={"layers": T5_BASE_LAYERS, "reduction": 4, "train_norms": "none"},
            trainable="1.36 %",
        ),
        "t5-large": Published(
            values={"layers": T5_LARGE_LAYERS, "reduction": 4, "train_norms": "none"},
            trainable="0.92 %",
            note="The T5 code is not released and no natural setting gives this figure.",
        ),
        "clip-vil": Published(
            values={
                "projection": "mlp",
                "reduction": 2,
                "train_norms": "none",
                "activation": "none",
            },
            trainable="10.3 M",
            note="As released. With projection=linear it is 10,287,034: the figure printed.",
        ),
        "mdetr": Published(
            values={
                "layers": (1, 3, 5, 6),
                "reduction": 2,
                "projection": "mlp",
                "crossing": "targets",
            },
            trainable="0.7 M",
        ),
        "vse": Published(
            values={"output": "projected", "width": 512, "train_norms": "none"},
            trainable="12.4 M",
        ),
        "clip-vit-b32": Published(
            values={"output": "embedding", "width": 512, "train_norms": "none"},
            trainable="9.6 M",
        ),
    },
    grows=Growth(field="width", step=8),
    trains="For each stream a downsampler with its norm for every hidden state, the confidence and "
    "the projection; an upsampler and a copy of the final norm for each stream that is read.",
    gradient="It stays in the side network: hidden states enter it without a graph.",
    cost=Cost(
        trainable="S*(K*(d*m + 3*m) + m**2 + 4*m + 1) + (R + C)*(d*m + d + g*d)",
        saved="B*T*(S*(K*(d + 2*m) + (K - 1)*(2*m + T) + 3*m) + C*(d + 2*m + T) "
        "+ (R + C)*(5 - 2*g)*d)",
        symbols={**SIDE_WIDTH, **TAPS},
    ),
    official={
        **glue(
            "not released; a natural setting that gives the published count has r = 4, the hidden "
            "states of LST, learning rate 3e-3"
        ),
        **hosts(
            "weight decay 1e-4, m = 512",
            "weight decay 0.2, m = 512",
            "learning rate 5e-4 on VQAv2 and 1e-4 on GQA, m = 384",
            "weight decay 1e-4, m = 128",
        ),
    },
    deviations=(
        "There is no released code for T5: the form there is a reconstruction by the published "
        "count, which it meets on T5-base.",
        "In a causal stream a token meets earlier tokens alone and weighs them by itself, without "
        "a mean over the text: otherwise it would see the tokens that it is to write.",
        "On MDETR the released code also upsamples every target of the decoder, for losses of its "
        "own; here the last output alone has a loss.",
        "The frozen backbone is in evaluation mode; the released code leaves BERT's dropout on "
        "and lets the batch statistics of CLIP-ViL's image tower drift.",
    ),
)
