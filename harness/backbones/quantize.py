"""A frozen backbone in low bits, whatever the method: its settings and its interface.

The storage itself belongs to ``methods/quantization``, which GNP-IQ shares; the engine reaches it
through ``harness.cards.LOW_BIT``, as it reaches methods. This file imports no torch.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from harness.registry import Config

if TYPE_CHECKING:
    from torch import Tensor


class QuantizeConfig(Config):
    """How the frozen backbone is quantised, once, before training; fields of ``backbone``."""

    quantize: Literal["none", "rtn", "gptq", "nf4"] = Field(
        default="none",
        description="frozen weights in low bits: round to nearest, GPTQ on training rows, or "
        "4-bit NormalFloat",
    )
    quantize_bits: Literal[2, 3, 4, 8] = Field(
        default=4, description="bits of a weight's code; nf4 has 4"
    )
    quantize_group: int | None = Field(
        default=None,
        ge=1,
        description="weights that share a scale; null is an output channel, for nf4 a block of 64",
    )
    quantize_embeddings: bool = Field(
        default=True, description="whether embeddings and their tied heads are rounded to 8 bits"
    )
    quantize_rows: int = Field(default=128, ge=1, description="training rows that calibrate gptq")

    @model_validator(mode="after")
    def _check_bits(self) -> "QuantizeConfig":
        if self.quantize == "nf4" and self.quantize_bits != 4:
            raise ValueError(
                f"quantize=nf4 has 4 bits, not quantize_bits={self.quantize_bits}; choose rtn or "
                f"gptq for others"
            )
        return self


class LowBit:
    """What a backbone knows of its low-bit weights; by itself, of a backbone that has none.

    Attributes:
        calibration_rows: training rows that the codes depend on; 0 where they depend on none.
    """

    calibration_rows: int = 0

    def calibrate(self, run_forward: Callable[[], None]) -> None:
        """Choose the codes; ``run_forward`` runs the calibration rows through the backbone."""

    def state(self) -> "dict[str, Tensor]":
        """Return what the weights and the settings alone do not give: calibrated codes."""
        return {}

    def load_state(self, state: "Mapping[str, Tensor]") -> None:
        """Restore what ``state`` returned."""

    def state_hash(self) -> str:
        """Return sha256 over all codes and scales; empty without any."""
        return ""

    def quality(self) -> dict[str, Any]:
        """Return ``quantization_mse``, the mean squared error of all quantised weights."""
        return {}

    def host_bytes(self) -> dict[str, int]:
        """Return peak bytes outside the model: ``masters``, ``calibration``."""
        return {}
