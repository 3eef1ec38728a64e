"""A frozen backbone that is quantised once, before any method adapts it (``backbone.quantize``)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.backbones.base import Backbone
from harness.backbones.quantize import LowBit, QuantizeConfig
from methods.quantization.config import QuantizationConfig
from methods.quantization.masters import masters_of
from methods.quantization.modules import (
    distinct_weights,
    layer_mses,
    mean_mse,
    quantize_modules,
)
from methods.quantization.nf4 import BLOCK, Nf4Weight
from methods.quantization.requantize import Requantizer
from methods.quantization.storage import buffers_hash, named_codes


class LowBitBackbone(LowBit):
    """The low-bit weights of a backbone, which take their layers' places here.

    Args:
        backbone: the model; changed in place.
        config: the quantiser, one that quantises.
    """

    def __init__(self, backbone: Backbone, config: QuantizeConfig) -> None:
        names = backbone.quantizable()
        settings = _quantizer(config)
        self.requantizer: Requantizer | None = None
        if config.quantize == "nf4":
            block = config.quantize_group or BLOCK
            self.modules = quantize_modules(
                backbone, names, settings, lambda weight, name: Nf4Weight(weight, name, block)
            )
            return
        masters = masters_of(backbone, names) if config.quantize == "gptq" else None
        self.modules = quantize_modules(backbone, names, settings)
        if masters is not None:
            self.calibration_rows = config.quantize_rows
            self.requantizer = Requantizer(self.modules, masters, settings, torch.Generator())

    def calibrate(self, run_forward: Callable[[], None]) -> None:
        """Choose the codes by GPTQ."""
        assert self.requantizer is not None
        self.requantizer.calibrate(run_forward)
        self.requantizer.initialise()
        self.requantizer.forget_calibration()

    def state(self) -> dict[str, Tensor]:
        """Return calibrated codes and grids; nothing where the weights alone give them."""
        return self.requantizer.state_dict() if self.requantizer else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore calibrated codes and grids."""
        if self.requantizer:
            self.requantizer.load_state_dict(state)

    def state_hash(self) -> str:
        """Return sha256 over all codes and grids."""
        return buffers_hash(named_codes(distinct_weights(self.modules)))

    def quality(self) -> dict[str, Any]:
        """Return the mean squared error of all quantised weights (Eq. 4), and of each."""
        errors = layer_mses(self.modules)
        return {"quantization_mse": mean_mse(self.modules), "layer_quantization_mse": errors}

    def host_bytes(self) -> dict[str, int]:
        """Return the peak bytes of masters (one tensor) and of calibration statistics."""
        return self.requantizer.host_bytes() if self.requantizer else {}


def _quantizer(config: QuantizeConfig) -> QuantizationConfig:
    """Return the settings of GNP-IQ's quantiser without its noise."""
    group = config.quantize_group
    settings: dict[str, Any] = {
        "bits": config.quantize_bits,
        "embedding_bits": 8 if config.quantize_embeddings else None,
        "granularity": "per_output_channel" if group is None else "group",
        "group_size": group or 1,
        "init": "gptq" if config.quantize == "gptq" else "rtn",
        "noise": "none",
    }
    return QuantizationConfig(**settings)
