"""Validation score over epochs of every method: mean and range over the seeds."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.record import Epoch, Record
from reports.comparison import Row
from reports.labels import label_of
from reports.line_panels import by_epoch, draw_lines
from reports.panels import (
    Curve,
    Look,
    Panel,
    draw_band,
    score_label,
    set_title,
)

NOTE = "Lines: mean over seeds. Bands: from the lowest to the highest seed."


def draw(panels: Sequence[Panel]) -> Figure:
    """Return one panel for every ranking."""
    return draw_lines(
        panels,
        lambda row: by_epoch(row.runs, _score),
        _draw_panel,
        missing="No finished run has the validation score of its primary metric by epoch.",
        note=NOTE,
    )


def _score(run: Record, epoch: Epoch) -> float | None:
    """Return an epoch's validation score in percent."""
    score = epoch.val.get(run.metrics.primary)
    return None if score is None else 100 * score


def _draw_panel(
    axes: Axes,
    panel: Panel,
    curves: Sequence[tuple[Row, Curve]],
    styles: Mapping[str, Look],
) -> None:
    for row, curve in curves:
        draw_band(axes, curve, styles[label_of(row)])
    axes.set_ylabel(score_label(panel.record), labelpad=2)
    set_title(axes, panel)
