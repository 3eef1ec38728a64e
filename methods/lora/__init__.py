"""Low-rank adaptation (LoRA)."""

from typing import Literal

from pydantic import Field, field_validator

from harness.cards import Growth, MethodCard, Published
from harness.costs import Cost, Symbol
from harness.registry import Config
from methods.official import glue

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
    grows=Growth(field="rank"),
    trains="A and B of W x + (alpha / r) B A dropout(x), for the query and value projections of "
    "every attention, cross-attention included.",
    gradient="It runs through every block, down to the first attention; the weights W get none.",
    cost=Cost(
        trainable="(S + C)*L*t*2*r*d",
        saved="B*T*L*((S + C)*(4*d + h*T + t*(2*d + r)) + S*(d + d_ff))",
        symbols={
            "r": Symbol(meaning="rank of an update", field="rank"),
            "t": Symbol(meaning="projections of an attention that are updated", field="targets"),
        },
        note="Without dropout an update saves d less, and with train_down=false r alone.",
    ),
    official={
        **glue("learning rate 3e-4, r = 32, alpha = 32, dropout 0.1, every bias trained"),
        "VQA, GQA, NLVR2 and COCO captions on VL-T5": "r = 150",
    },
    deviations=(
        "The default is LoRA by itself. The published figure on T5 counts every bias too, the "
        "output layer's and the tables of relative positions included: lora@official.",
        "Updates are never merged into the weights.",
        "lora@qlora updates attention alone, where QLoRA updates every linear layer; its NF4 has "
        "no double quantisation, and its optimizer is that of train.optimizer, which is not paged.",
    ),
)
