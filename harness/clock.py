"""Seconds of a piece of work, on whatever device it runs."""

import time
from collections.abc import Callable
from typing import Any

import torch

Work = Callable[[], Any]


def seconds(work: Work, device: torch.device | None = None) -> float:
    """Return the seconds that ``work`` takes.

    Args:
        work: is called once.
        device: where it runs; CUDA is waited for, before and after.
    """
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
