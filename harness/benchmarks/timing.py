"""Two pieces of work, timed in turn in one process."""

import math
import statistics
from contextlib import AbstractContextManager
from typing import Any

import torch

from harness.clock import Work, seconds
from harness.model import pick_device
from harness.precision import native_bf16

THREADS = 2


def bench_device() -> torch.device:
    """Return the machine's GPU, or else its CPU, whose threads are set to two."""
    device = pick_device("auto")
    if device.type == "cpu":
        torch.set_num_threads(THREADS)
    return device


def in_dtype(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return autocast to bf16, or to nothing where ``dtype`` is fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def is_timed(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether anybody would compute in ``dtype``: not in bf16 where it is emulated."""
    return dtype == torch.float32 or native_bf16(device)


def duel(ours: Work, other: Work, pairs: int, device: torch.device | None = None) -> dict[str, Any]:
    """Time two pieces of work in turn, the first of a pair alternating, after one unmeasured pair.

    Args:
        ours: the one whose time is the ratio's numerator.
        other: what it is compared with.
        pairs: how often; at least 2.
        device: where both run.

    Returns:
        ``pairs``; ``seconds`` and ``other_seconds``, medians; ``ratio``, the geometric mean over
        the pairs, and ``ratio_interval``, its 95 % t-interval.
    """
    from scipy.special import stdtrit

    ours()
    other()
    times = [_pair(ours, other, device, first=number % 2 == 0) for number in range(pairs)]
    logs = [math.log(mine / theirs) for mine, theirs in times]
    half = float(stdtrit(pairs - 1, 0.975)) * statistics.stdev(logs) / math.sqrt(pairs)
    mean = statistics.fmean(logs)
    return {
        "pairs": pairs,
        "seconds": statistics.median(mine for mine, _ in times),
        "other_seconds": statistics.median(theirs for _, theirs in times),
        "ratio": math.exp(mean),
        "ratio_interval": [math.exp(mean - half), math.exp(mean + half)],
    }


def interval(figures: dict[str, Any]) -> str:
    """Return a ratio with its interval as text."""
    low, high = figures["ratio_interval"]
    return f"{figures['ratio']:.2f} ({low:.2f} .. {high:.2f})"


def _pair(
    ours: Work, other: Work, device: torch.device | None, *, first: bool
) -> tuple[float, float]:
    if first:
        mine = seconds(ours, device)
        return mine, seconds(other, device)
    theirs = seconds(other, device)
    return seconds(ours, device), theirs
