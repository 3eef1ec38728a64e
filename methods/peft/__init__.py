"""Any adapter type of the peft library that changes layers in place."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field, field_validator

from harness.cards import MethodCard
from harness.costs import Cost, Symbol
from harness.registry import Config
from methods.peft.types import PRESETS, READS_VALUES, REFUSED, PeftType

Target = Literal["query", "key", "value", "output", "up", "down"]


class PeftConfig(Config):
    """Settings of one adapter type of the peft library."""

    type: PeftType = Field("vera", description="peft's name of the type, as in peft:TYPE")
    targets: tuple[Target, ...] = Field(
        ("query", "value"),
        description="which linear layers of every block change: projections of the attentions, "
        "and those up to and down from the feed-forward network's hidden width; fused ones "
        "change as one, and a type that tunes norms changes these instead",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="fields of peft's own configuration of the type: method.settings.r=4",
    )

    @field_validator("type", mode="before")
    @classmethod
    def _can_be_injected(cls, kind: Any) -> Any:
        if isinstance(kind, str) and kind in REFUSED:
            raise ValueError(f"it cannot be injected into layers: {REFUSED[kind]}")
        return kind

    @field_validator("targets")
    @classmethod
    def _each_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if not targets or len(set(targets)) < len(targets):
            raise ValueError(f"{list(targets)}: name at least one, each once")
        return targets

    @property
    def variant(self) -> str:
        """The type, which is the preset's name."""
        return self.type

    def problems(self, section: str) -> Iterator[str]:
        """Say which settings the type does not have, or not with that value."""
        if self.settings and find_spec("peft"):
            from methods.peft.settings import checked

            problems: list[str] = []
            checked(self, section, problems)
            yield from problems


CARD = MethodCard(
    name="peft",
    summary="One type of the peft library in the blocks' linear layers: peft:TYPE.",
    source="Mangrulkar et al., PEFT, 2022 (github.com/huggingface/peft), and each type's own paper",
    config=PeftConfig,
    implementation="methods.peft.model:Peft",
    family="peft",
    requires=frozenset({"in_place"}),
    backbone_gradients=True,
    full_precision=True,
    package="peft",
    presets=PRESETS,
    settings={kind: {"memory.predict": False} for kind in READS_VALUES},
    aliases={f"peft:{kind}": kind for kind in PRESETS},
    refused={f"peft:{kind}": reason for kind, reason in REFUSED.items()},
    train={"lr": 1e-3},
    trains="What the type puts into the linear layers of every block, or beside them.",
    gradient="Through all blocks down to the first changed layer.",
    cost=Cost(
        trainable="(S + C)*L*t*(r + d)",
        saved="B*T*L*((S + C)*(4*d + h*T + t*(d + r)) + S*(d + d_ff))",
        symbols={
            "r": Symbol(meaning="rank of the shared random matrices, settings.r", value="256"),
            "t": Symbol(meaning="projections that are changed, of an attention", field="targets"),
        },
        note="These are of the default type, vera; harness show peft:TYPE --backbone NAME counts "
        "any other.",
    ),
    deviations=(
        "Settings are the library's defaults but for those that harness show peft lists as "
        "presets; harness show peft also says which types are refused, and why.",
    ),
)
