"""Low-rank adaptation (LoRA)."""

from typing import Literal

from pydantic import Field, field_validator

from harness.cards import MethodCard, Published
from harness.registry import Config

Target = Literal["query", "key", "value", "output"]


class LoraConfig(Config):
    """Settings of low-rank updates."""

    rank: int = Field(32, ge=1, description="r: rank of an update")
    alpha: float = Field(32.0, gt=0, description="an update is multiplied by alpha / r")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout on what an update reads")
    targets: tuple[Target, ...] = Field(
        ("query", "value"), description="which projections of every attention are updated"
    )
    train_down: bool = Field(
        True,
        description="whether A trains; LoRA-FA keeps it as it starts, so that an update saves its "
        "r inner values and, without dropout, nothing of the layer's width",
    )
    biases: bool = Field(
        False,
        description="whether everything named bias trains too, added where there is none: the "
        "published count includes it",
    )

    @field_validator("targets")
    @classmethod
    def _each_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if not targets or len(set(targets)) < len(targets):
            raise ValueError(f"{list(targets)}: name at least one, each once")
        return targets


CARD = MethodCard(
    name="lora",
    summary="Low-rank updates of attention projections.",
    source="Hu et al., LoRA, ICLR 2022; preset fa: Zhang et al., LoRA-FA, 2023 (arXiv 2308.03303); "
    "preset qlora: Dettmers et al., QLoRA, NeurIPS 2023, on attention alone",
    config=LoraConfig,
    implementation="methods.lora.model:Lora",
    family="peft",
    requires=frozenset({"in_place"}),
    backbone_gradients=True,
    presets={
        "official": {"biases": True},
        "fa": {"train_down": False, "dropout": 0.0},
        "qlora": {"targets": ("query", "key", "value", "output")},
    },
    settings={
        "qlora": {
            "backbone.quantize": "nf4",
            "backbone.quantize_embeddings": False,
            "train.grad_checkpoint": True,
            "train.amp": "auto",
        }
    },
    train={"lr": 3e-4},
    published={"t5-base": Published(values={"biases": True}, trainable="1.71 %")},
)
