"""Plots of many runs. One module here is one plot: ``score_memory`` is ``score-memory``.

A plot's module says in the first line of its docstring what it shows, and holds
``draw(panels: Sequence[Panel]) -> Figure``, which raises UserError where no run has what it
draws. Being here is the registration.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from harness.errors import UserError, did_you_mean
from harness.record import Record
from reports.figures import NO_DATE, STYLE, file_of
from reports.panels import Panel, panels_of

FORMATS: Final = tuple(NO_DATE)
Draw = Callable[[Sequence[Panel]], Figure]


def names() -> list[str]:
    """Return the names of all plots."""
    return sorted(found.name.replace("_", "-") for found in pkgutil.iter_modules(__path__))


def summary(name: str) -> str:
    """Return what a plot shows, one sentence."""
    return (_module(name).__doc__ or "").partition("\n")[0]


def check_name(name: str) -> None:
    """Raise UserError unless there is a plot of this name."""
    if name not in names():
        raise UserError(f"There is no plot '{name}'.{did_you_mean(name, names())}")


def format_of(path: Path) -> str:
    """Return the format that a file's suffix names.

    Raises:
        UserError: it names none of ``FORMATS``.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise UserError(f"--to {path}: a plot's file ends in one of {known}.")
    return suffix


def render(name: str, records: Sequence[Record], formats: Sequence[str]) -> dict[str, bytes]:
    """Draw a plot and return it in every format that is asked for.

    Args:
        name: one of :func:`names`.
        records: of any status; a plot takes what it can draw.
        formats: of ``FORMATS``.

    Returns:
        The content of a file, by format.

    Raises:
        UserError: there is no such plot, or no run has what it draws.
    """
    check_name(name)
    return render_panels(name, panels_of(records), formats)


def render_panels(name: str, panels: Sequence[Panel], formats: Sequence[str]) -> dict[str, bytes]:
    """Do what :func:`render` does with panels that are made already, for several plots of them."""
    draw: Draw = _module(name).draw
    with mpl.rc_context(STYLE):
        figure = draw(panels)
        return {suffix: file_of(figure, suffix) for suffix in formats}


def _module(name: str) -> ModuleType:
    check_name(name)
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
