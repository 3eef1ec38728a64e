"""Budgets of memory: how they are written, and the largest setting that fits in one."""

import re
from collections.abc import Callable

from harness.errors import UserError

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
LARGEST = 2**20
"""No setting is tried beyond this."""


def read_budget(text: str) -> int:
    """Return the bytes of a budget such as ``8GiB`` or ``512 MiB``.

    Raises:
        UserError: it is not written so, or is nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    units = {unit.lower(): size for unit, size in UNITS.items()}
    if found is None or found[2].lower() not in units:
        raise UserError(
            f"--budget '{text}': write a number and a unit of {', '.join(UNITS)}, such as 8GiB."
        )
    size = int(float(found[1]) * units[found[2].lower()])
    if size < 1:
        raise UserError(f"--budget '{text}': a budget is more than nothing.")
    return size


def largest_fitting(
    peak: Callable[[int], int], budget: int, *, smallest: int = 1, step: int = 1
) -> tuple[int, int] | None:
    """Return the largest value whose peak is within a budget, and that peak.

    Peaks must not fall as the value grows. As they are nearly linear in it, the value is guessed
    from two known peaks, and a bisection makes sure of it.

    Args:
        peak: returns the peak bytes of a value.
        budget: bytes.
        smallest: the first value.
        step: values are ``smallest`` plus multiples of it.

    Returns:
        None where the smallest value does not fit.
    """
    known = {0: peak(smallest)}
    if known[0] > budget:
        return None
    low, high, guess = 0, None, 1  # in steps: low fits; high does not, once one is known
    while high is None or high - low > 1:
        known[guess] = peak(smallest + guess * step)
        if known[guess] <= budget:
            low = guess
        else:
            high = guess
        if high is None and smallest + low * step >= LARGEST:
            break
        guess = _next(known, low, high, budget)
    return smallest + low * step, known[low]


def _next(known: dict[int, int], low: int, high: int | None, budget: int) -> int:
    """Return the next value to try, strictly between what fits and what does not."""
    first, last = min(known), max(known)
    slope = (known[last] - known[first]) / (last - first)
    guess = int(first + (budget - known[first]) / slope) if slope > 0 else 2 * last
    if guess in known:  # what is left is next to it
        guess = guess + 1 if guess <= low else guess - 1
    ceiling = 2 * LARGEST if high is None else high - 1
    return min(max(guess, low + 1), ceiling)
