"""Quantisation error of every weight of the backbone, in the order of its layers."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from reports.comparison import Row
from reports.labels import label_of
from reports.line_panels import draw_lines
from reports.panels import Look, Panel, set_title
from reports.sheet import Margins

MARGINS = Margins(left=0.72, bottom=0.42)
NOTE = (
    "Mean squared difference of a quantised weight from that of full precision, of the first seed. "
    "Weights stand in the order of the backbone's layers; harness runs diff names them."
)
Errors = dict[str, float]


def draw(panels: Sequence[Panel]) -> Figure:
    """Return one panel for every ranking."""
    return draw_lines(
        panels,
        lambda row: row.record.quality.layer_quantization_mse,
        _draw_panel,
        missing="No finished run has a quantisation error by layer; methods on a low-bit backbone, "
        "such as mp_ismoe, measure it.",
        note=NOTE,
        margins=MARGINS,
        height=1.2,
    )


def _draw_panel(
    axes: Axes,
    panel: Panel,
    known: Sequence[tuple[Row, Errors]],
    styles: Mapping[str, Look],
) -> None:
    for row, errors in known:
        look = styles[label_of(row)]
        places = range(1, len(errors) + 1)
        axes.plot(
            places,
            list(errors.values()),
            color=look.colour,
            linestyle=look.line,
            linewidth=1.2,
            marker="." if len(errors) == 1 else None,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("weight", labelpad=1)
    axes.set_ylabel("error (MSE)", labelpad=2)
    set_title(axes, panel, left=MARGINS.left)
