"""Figures of a study, each as PNG, SVG and PDF, one column of a paper wide."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from reports.figures import DPI, NO_DATE, STYLE
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


def draw(report: StudyReport, folder: Path) -> list[Path]:
    """Draw what the study allows: main effects, interactions, importances, front and curves.

    Args:
        report: of any study. A figure without content is not drawn: nothing where no run has a
            score, no main effects of factors with one value.
        folder: where the files go; it is made with the first.

    Returns:
        The files, of each figure the PNG, the SVG and the PDF.
    """
    written = []
    with mpl.rc_context(STYLE):
        for name, figure_of in DRAWN.items():
            figure = figure_of(report)
            if figure is not None:
                written += _save(figure, folder / name)
    return written


def _save(figure: Figure, path: Path) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {path.with_suffix(f".{suffix}"): metadata for suffix, metadata in NO_DATE.items()}
    for file, metadata in files.items():
        figure.savefig(file, dpi=DPI, metadata=metadata)
    return list(files)
