"""Commands of the harness as processes of their own."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

GIB = 2**30
ROOT = Path(__file__).resolve().parents[2]


def command(words: Sequence[str]) -> list[str]:
    """Return the command line that runs this very source."""
    return [sys.executable, "-P", "-m", "harness", *words]


def environment() -> dict[str, str]:
    """Return an environment in which a process finds this very source."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
