"""Figures of a study, each as PNG, SVG and PDF, one column of a paper wide."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from harness.record import write_atomic
from reports.figures import NO_DATE, STYLE, file_of
from reports.studies.curves import learning_curves
from reports.studies.effect_figures import importances, interactions, main_effects
from reports.studies.pareto_figure import pareto
from reports.studies.summary import StudyReport

DRAWN: Final[dict[str, Callable[[StudyReport], Figure | None]]] = {
    "main_effects": main_effects,
    "interactions": interactions,
    "importances": importances,
    "pareto": pareto,
    "learning_curves": learning_curves,
}
CAPTIONS: Final = {
    "main_effects": "Score of every level of a factor, over the levels of the others.",
    "interactions": "Score of every two factors' levels together.",
    "importances": "What share of the score's variance a factor explains.",
    "pareto": "Validation score against peak memory of training, with the Pareto front.",
    "learning_curves": "Validation score over epochs.",
}


def drawn(report: StudyReport) -> dict[str, Figure]:
    """Draw what the study allows: main effects, interactions, importances, front and curves.

    Args:
        report: of any study. A figure without content is not drawn: nothing where no run has a
            score, no main effects of factors with one value.
    """
    with mpl.rc_context(STYLE):
        figures = {name: figure_of(report) for name, figure_of in DRAWN.items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


def figure_files(figures: Mapping[str, Figure], formats: Sequence[str]) -> dict[str, bytes]:
    """Return the content of each figure's files, ``NAME.SUFFIX``, of png, svg and pdf."""
    with mpl.rc_context(STYLE):
        return {
            f"{name}.{suffix}": file_of(figure, suffix)
            for name, figure in figures.items()
            for suffix in formats
        }


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write every figure as PNG, SVG and PDF, and return the files; a folder is made for them."""
    files = figure_files(figures, tuple(NO_DATE))
    return [write_atomic(folder / name, content) for name, content in files.items()]


def draw(report: StudyReport, folder: Path) -> list[Path]:
    """Draw what the study allows, and write it; see :func:`drawn` and :func:`save`."""
    return save(drawn(report), folder)
