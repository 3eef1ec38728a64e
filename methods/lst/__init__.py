"""Ladder side-tuning (LST)."""

from typing import Literal

from pydantic import Field

from harness.cards import MethodCard, Published
from methods.side.config import T5_BASE_LAYERS, T5_LARGE_LAYERS, SideConfig


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
)
