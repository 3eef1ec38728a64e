"""The settings that side networks share; torch-free, so that method cards can import it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from harness.registry import Config

LayerChoice = tuple[int, ...] | dict[str, tuple[int, ...]] | None
"""Hidden states of every stream, or by a stream's name; None for all."""

T5_BASE_LAYERS = (2, 3, 4, 6, 7, 8, 10, 11, 12)
"""The hidden states that LST reads in each stack of T5-base: three of twelve blocks are skipped."""

T5_LARGE_LAYERS = tuple(range(2, 25, 2))
"""The same for T5-large: every second of 24."""


def _ascending(layers: LayerChoice) -> LayerChoice:
    if isinstance(layers, dict):
        for chosen in layers.values():
            _ascending(chosen)
        return layers
    if layers is not None and (not layers or sorted(set(layers)) != list(layers)):
        raise ValueError(f"{list(layers)}: name at least one, each once, in ascending order")
    if layers and layers[0] < 0:
        raise ValueError(f"{list(layers)}: the first hidden state is 0")
    return layers


Layers = Annotated[LayerChoice, AfterValidator(_ascending)]
"""Which hidden states of a stream are read: 0 is the embedding; None for all."""


Width = Annotated[int | None, Field(ge=1)]
WIDTH: Any = Field(None, description="m itself, in place of the backbone's width divided by r")
"""The field of a side width that is given as a number."""


class SideConfig(Config):
    """Width and taps of a side network."""

    reduction: int = Field(4, ge=1, description="r: the side width is the backbone's divided by r")
    width: Width = WIDTH
    layers: Layers = Field(
        None,
        description="hidden states to read, of every stream or by its name: 0 is the embedding, i "
        "the output of block i; null for all",
    )

    train_norms: Literal["side_copy", "none"] = Field(
        "side_copy",
        description="whether a trained copy of a stream's final norm follows the upsampler",
    )
    join: Literal["none", "gate", "add"] = Field(
        "none",
        description="how the frozen output joins the result: not at all, g side + (1 - g) frozen "
        "with g from 0.5, or side + g frozen with g from 0",
    )
