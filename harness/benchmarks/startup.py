"""Whole processes of the commands that must be quick."""

import statistics
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from harness.benchmarks.processes import command, environment
from harness.clock import seconds

QUICK_COMMANDS = (("--help",), ("list",), ("show", "mp_ismoe"))
REPEATS = 5


def measure() -> dict[str, Any]:
    """Return the median seconds of each."""
    return {
        "seconds": {
            " ".join(words): statistics.median(_process_seconds(words) for _ in range(REPEATS))
            for words in QUICK_COMMANDS
        }
    }


def _process_seconds(words: Sequence[str]) -> float:
    return seconds(
        lambda: subprocess.run(
            command(words), env=environment(), check=True, stdout=subprocess.DEVNULL
        )
    )


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each command."""
    for words, taken in figures["seconds"].items():
        yield f"harness {words}: {taken:.3f} s (median of {REPEATS})"
