"""The precision of a run's forward passes."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from harness import processor
from harness.config import RunConfig, TrainConfig


def settle_precision(config: RunConfig, device: torch.device) -> RunConfig:
    """Return ``config`` with ``train.amp=auto`` replaced by what the device does natively."""
    if config.train.amp != "auto":
        return config
    amp = "bf16" if native_bf16(device) else "off"
    return config.model_copy(update={"train": config.train.model_copy(update={"amp": amp})})


def native_bf16(device: torch.device) -> bool:
    """Return whether bf16 products are no slower than fp32 ones on ``device``.

    Of a CPU see :func:`harness.processor.native_bf16`, which finds earlier runs without torch.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = processor.native_bf16()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if known is None else known


def autocast(device: torch.device, train: TrainConfig) -> AbstractContextManager[Any]:
    """Return the autocast context that ``train.amp`` asks for."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=train.amp == "bf16")
