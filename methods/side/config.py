"""The settings that side networks share; torch-free, so that method cards can import it."""

from typing import Literal

from pydantic import Field, field_validator

from harness.registry import Config


class SideConfig(Config):
    """Width and taps of a side network."""

    reduction: int = Field(4, ge=1, description="r: the side width is the backbone's divided by r")
    layers: tuple[int, ...] | None = Field(
        None,
        description="hidden states to read: 0 is the embedding, i the output of block i; "
        "null for all",
    )

    train_norms: Literal["side_copy", "none"] = Field(
        "side_copy",
        description="whether a trained copy of a stream's final norm follows the upsampler",
    )
    merge: Literal["none", "gate", "add"] = Field(
        "none",
        description="how the frozen output joins the result: not at all, g side + (1 - g) frozen "
        "with g from 0.5, or side + g frozen with g from 0",
    )

    @field_validator("layers")
    @classmethod
    def _ascending(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers is not None and (not layers or sorted(set(layers)) != list(layers)):
            raise ValueError(f"{list(layers)}: name at least one, each once, in ascending order")
        if layers and layers[0] < 0:
            raise ValueError(f"{list(layers)}: the first hidden state is 0")
        return layers
