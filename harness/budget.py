"""Budgets of memory: how they are written, and the largest setting that fits in one."""

import re
from collections.abc import Callable

from harness.errors import UserError

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
LARGEST = 2**20
"""No setting is tried beyond this."""
FARTHEST = 64
FLAT = 16
"""A setting without effect is known by a value so many times the first."""


def read_budget(text: str, otherwise: str = ".") -> int:
    """Return the bytes of a budget such as ``8GiB`` or ``512 MiB``.

    Args:
        text: what was typed.
        otherwise: the end of the message, which may say what else can be typed.

    Raises:
        UserError: it is not written so, or is nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    units = {unit.lower(): size for unit, size in UNITS.items()}
    if found is None or found[2].lower() not in units:
        raise UserError(
            f"--budget '{text}': write a number and a unit of {', '.join(UNITS)}, such as 8GiB"
            f"{otherwise}"
        )
    size = int(float(found[1]) * units[found[2].lower()])
    if size < 1:
        raise UserError(f"--budget '{text}': a budget is more than nothing.")
    return size


def largest_fitting(
    peak: Callable[[int], int],
    budget: int,
    *,
    smallest: int = 1,
    step: int = 1,
    name: str = "the setting",
) -> tuple[int, int] | None:
    """Return the largest value whose peak is within a budget, and that peak.

    Peaks must not fall as the value grows. As they are nearly linear in it, the value is guessed
    from two known peaks, and a bisection makes sure of it.

    Args:
        peak: returns the peak bytes of a value, or raises UserError where the value is refused;
            above one that fits, that counts as one that does not.
        budget: bytes.
        smallest: the first value.
        step: values are ``smallest`` plus multiples of it.
        name: of the setting, for messages.

    Returns:
        None where the smallest value does not fit.

    Raises:
        UserError: the smallest value is refused, or a larger one needs no more memory.
    """
    known = {0: peak(smallest)}  # by steps, as low and high are
    if known[0] > budget:
        return None
    low, high, guess = 0, None, 1  # low fits; high does not, once one is known
    while high is None or high - low > 1:
        need = _allowed(peak, smallest + guess * step)
        if need is not None:
            known[guess] = need
        span = None if high is None else high - low
        if need is not None and need <= budget:
            low = guess
            _check_growth(name, smallest, smallest + low * step, known[0], need)
        else:
            high = guess
        if high is None:
            if smallest + low * step >= LARGEST:
                break
            guess = _beyond(known, low, budget)
        elif high not in known or (span is not None and 2 * (high - low) > span):
            guess = (low + high) // 2
        else:
            guess = _between(known, low, high, budget)
    return smallest + low * step, known[low]


def _allowed(peak: Callable[[int], int], value: int) -> int | None:
    """Return a value's peak; None where the value is refused, such as more than there are."""
    try:
        return peak(value)
    except UserError:
        return None


def _check_growth(name: str, first: int, value: int, first_need: int, need: int) -> None:
    """Raise UserError where a value many times the first needs no more than it."""
    if value >= FLAT * first and need <= first_need:
        raise UserError(
            f"{name}: {value} needs no more memory than {first}, so that there is no largest value "
            f"to be found; name a whole number that memory grows with."
        )


def _beyond(known: dict[int, int], low: int, budget: int) -> int:
    """Return a step above ``low``, where no step is known not to fit.

    It is no more than some times as far, for memory may bend upwards.
    """
    slope = (known[low] - known[0]) / low
    guess = int((budget - known[0]) / slope) if slope > 0 else 2 * low
    return min(max(guess, low + 1), FARTHEST * low, 2 * LARGEST)


def _between(known: dict[int, int], low: int, high: int, budget: int) -> int:
    """Return a step strictly between one that fits and one that does not."""
    slope = (known[high] - known[low]) / (high - low)
    return min(max(low + int((budget - known[low]) / slope), low + 1), high - 1)
