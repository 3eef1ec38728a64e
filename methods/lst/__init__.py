"""Ladder side-tuning (LST)."""

from typing import Literal

from pydantic import Field

from harness.cards import MethodCard
from methods.side.config import SideConfig


class LstConfig(SideConfig):
    """Settings of a ladder side network."""

    block_norm: Literal["pre", "post"] = Field(
        "pre", description="where a side block's norms stand: before its sub-layers, or after"
    )
    gate_temperature: float = Field(
        0.1, gt=0, description="T: a ladder's gate is sigmoid(a / T), with a learned from 0"
    )


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
)
