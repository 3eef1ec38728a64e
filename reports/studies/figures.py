"""Figures of a study, each as PNG, SVG and PDF, one column of a paper wide."""

from collections.abc import Callable, Sequence
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


def figure_files(report: StudyReport, formats: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """Draw what the study allows: main effects, interactions, importances, front and curves.

    Args:
        report: of any study. A figure without content is not drawn: nothing where no run has a
            score, no main effects of factors with one value.
        formats: of png, svg and pdf.

    Returns:
        The content of a file, by the figure's name and format.
    """
    with mpl.rc_context(STYLE):
        figures = {name: figure_of(report) for name, figure_of in DRAWN.items()}
        return {
            name: {suffix: file_of(figure, suffix) for suffix in formats}
            for name, figure in figures.items()
            if figure is not None
        }


def draw(report: StudyReport, folder: Path) -> list[Path]:
    """Write the figures of :func:`figure_files` in every format, and return the files."""
    return [
        write_atomic(folder / f"{name}.{suffix}", content)
        for name, files in figure_files(report, tuple(NO_DATE)).items()
        for suffix, content in files.items()
    ]
