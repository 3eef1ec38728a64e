"""Quantisation error of the backbone's weights over epochs: mean and range over the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.errors import UserError
from harness.record import Record
from reports.comparison import Row
from reports.labels import label_of
from reports.panels import (
    Curve,
    Look,
    Panel,
    draw_band,
    line_keys,
    looks,
    panels,
    runs_of_rows,
    set_title,
    title_height,
)
from reports.sheet import Foot, Margins, panel_heights, sheet

MARGINS = Margins(left=0.72)
NOTE = (
    "Mean squared difference of the quantised weights from those of full precision, in units of "
    "1e-6. Lines: mean over seeds. Bands: from the lowest to the highest seed."
)


def draw(records: Sequence[Record]) -> Figure:
    """Return one panel for every ranking."""
    of_row = runs_of_rows(records)
    drawn = []
    for panel in panels(records):
        curves = [(row, _curve(of_row[row.record.run_key])) for row in panel.rows]
        if any(curve for _, curve in curves):
            drawn.append((panel, [(row, curve) for row, curve in curves if curve]))
    if not drawn:
        raise UserError(
            "No finished run has a quantisation error by epoch; methods on a low-bit backbone, "
            "such as mp_ismoe, measure it."
        )
    styles = looks(row for _, curves in drawn for row, _ in curves)
    margins = replace(MARGINS, top=title_height(panel for panel, _ in drawn))
    foot = Foot(line_keys(styles), NOTE)
    figure, all_axes = sheet(panel_heights(len(drawn), 1.0), foot, margins=margins)
    for axes, (panel, curves) in zip(all_axes, drawn, strict=True):
        _draw_panel(axes, panel, curves, styles)
    return figure


def _curve(runs: Sequence[Record]) -> Curve:
    """Return the seeds' errors in units of 1e-6, by epoch."""
    curve: dict[int, list[float]] = {}
    for run in runs:
        for row in run.history:
            if row.quantization_mse:
                curve.setdefault(row.epoch, []).append(1e6 * row.quantization_mse)
    return dict(sorted(curve.items()))


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
