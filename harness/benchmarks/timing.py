"""Two pieces of work, timed in turn in one process."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

Work = Callable[[], Any]


def duel(ours: Work, other: Work, pairs: int) -> dict[str, Any]:
    """Time two pieces of work in turn, the first of a pair alternating, after one unmeasured pair.

    Args:
        ours: the one whose time is the ratio's numerator.
        other: what it is compared with.
        pairs: how often; at least 2.

    Returns:
        ``pairs``; ``seconds`` and ``other_seconds``, medians; ``ratio``, the geometric mean over
        the pairs, and ``ratio_interval``, its 95 % t-interval.
    """
    from scipy.special import stdtrit

    ours()
    other()
    times = [_pair(ours, other, first=number % 2 == 0) for number in range(pairs)]
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


def seconds(work: Work) -> float:
    """Return the seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _pair(ours: Work, other: Work, *, first: bool) -> tuple[float, float]:
    if first:
        mine = seconds(ours)
        return mine, seconds(other)
    theirs = seconds(other)
    return seconds(ours), theirs
