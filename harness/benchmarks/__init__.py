"""Measurements of the harness and of what its methods promise; run them on an idle machine.

Every benchmark is a module with ``measure``, which returns JSON-ready figures, and ``lines``, which
says them. This file imports no torch.
"""

import importlib
from collections.abc import Iterator
from typing import Any

from harness.errors import UserError, did_you_mean

BENCHMARKS = {
    "startup": "harness.benchmarks.startup",
    "loop": "harness.benchmarks.loop",
    "job": "harness.benchmarks.job",
    "prediction": "harness.benchmarks.prediction",
    "features": "harness.benchmarks.features",
    "compile": "harness.benchmarks.compile",
    "experts": "methods.experts.bench",
    "low_bits": "methods.quantization.bench",
}
Figures = dict[str, Any]


def measure(name: str | None = None) -> Iterator[Figures]:
    """Run one benchmark, or all of them, and yield the figures of each with its name.

    Raises:
        UserError: there is no benchmark of that name.
    """
    if name is not None and name not in BENCHMARKS:
        raise UserError(f"Unknown benchmark '{name}'.{did_you_mean(name, BENCHMARKS)}")
    for each in BENCHMARKS if name is None else (name,):
        yield {"benchmark": each, **importlib.import_module(BENCHMARKS[each]).measure()}


def lines(figures: Figures) -> Iterator[str]:
    """Yield the figures of one benchmark as text."""
    name = figures["benchmark"]
    for line in importlib.import_module(BENCHMARKS[name]).lines(figures):
        yield f"{name:<11}{line}"
