"""Benchmark and ablation harness for memory-efficient transfer learning.

In Python as on the command line: :func:`run`, :func:`compare`, :func:`records`,
:func:`load_records` and :func:`frame`, which load what they need when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import compare, frame, load_records, records, run

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "frame", "load_records", "records", "run"]


def __getattr__(name: str) -> Any:
    """Return a function of :mod:`harness.api`."""
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    from harness import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
