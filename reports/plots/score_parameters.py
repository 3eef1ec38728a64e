"""Test score against the number of trainable parameters, with the Pareto front."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.comparison import Row
from reports.panels import Panel, log_scale
from reports.score_panels import score_figure

NOTE = (
    "Bars: 95 % interval of the mean over seeds. Grey steps: the Pareto front, which no run beats "
    "in both. The head's parameters count."
)


def draw(panels: Sequence[Panel]) -> Figure:
    """Return one panel for every ranking of two rows or more."""
    return score_figure(panels, _trainable, "counted trainable parameters", NOTE, _place)


def _trainable(row: Row) -> int | None:
    params = row.record.params
    return params.trainable if params and params.trainable else None


def _place(axes: Axes, rows: Sequence[Row]) -> list[float]:
    counts = [float(_trainable(row) or 0) for row in rows]
    log_scale(axes, counts, base=10)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.set_xlabel("trainable parameters", labelpad=2)
    return counts


def _short(count: float) -> str:
    """Return ``"10 k"`` for 10,000."""
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:g}{name}"
    return f"{count:g}"
