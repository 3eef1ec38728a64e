"""Quantisation error of the backbone's weights over epochs: mean and range over the seeds."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.record import Epoch, Record
from reports.comparison import Row
from reports.labels import label_of
from reports.line_panels import by_epoch, draw_lines
from reports.panels import (
    Curve,
    Look,
    Panel,
    draw_band,
    set_title,
)
from reports.sheet import Margins

MARGINS = Margins(left=0.72)
NOTE = (
    "Mean squared difference of the quantised weights from those of full precision, in units of "
    "1e-6. Lines: mean over seeds. Bands: from the lowest to the highest seed."
)


def draw(panels: Sequence[Panel]) -> Figure:
    """Return one panel for every ranking."""
    return draw_lines(
        panels,
        lambda row: by_epoch(row.runs, _error),
        _draw_panel,
        missing="No finished run has a quantisation error by epoch; methods on a low-bit backbone, "
        "such as mp_ismoe, measure it.",
        note=NOTE,
        margins=MARGINS,
        height=1.0,
    )


def _error(_: Record, epoch: Epoch) -> float | None:
    """Return an epoch's error in units of 1e-6; None for none, also where nothing was lost."""
    return 1e6 * epoch.quantization_mse if epoch.quantization_mse else None


def _draw_panel(
    axes: Axes,
    panel: Panel,
    curves: Sequence[tuple[Row, Curve]],
    styles: Mapping[str, Look],
) -> None:
    for row, curve in curves:
        draw_band(axes, curve, styles[label_of(row)])
    values = [value for _, curve in curves for of_epoch in curve.values() for value in of_epoch]
    margin = max(0.1 * (max(values) - min(values)), 0.02 * max(values))
    axes.set_ylim(min(values) - margin, max(values) + margin)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.5g}"))
    axes.set_ylabel("error (MSE x 1e6)", labelpad=2)
    set_title(axes, panel, left=MARGINS.left)
