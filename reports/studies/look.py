"""What a study's figures share: colours of levels, room for names, limits of scores."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.text import Text

from reports.figures import INK
from reports.labels import cut
from reports.palette import words
from reports.studies.design import Factor
from reports.studies.summary import StudyReport

FRONT, SECOND = "#0072b2", "#e69f00"
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
NAME, LEVEL, ROW = 24, 14, 9
"""So many characters of a term, of a level and of a row's level are shown."""
UPRIGHT = 4
"""Names of levels up to this length are never set aslant."""
CHARACTER = 0.05
"""Inches that a character takes, about."""


def level_colours(factor: Factor) -> list[str]:
    """Return a colour of each level: a scale for numbers, hues that stay apart for the rest."""
    number = len(factor.values)
    if not factor.is_numeric and number <= len(CATEGORIES):
        return list(CATEGORIES[:number])
    scale = mpl.colormaps["viridis"]
    return [to_hex(scale(0.08 + 0.8 * n / max(number - 1, 1))) for n in range(number)]


def score_name(report: StudyReport, split: str) -> str:
    """Return the label of an axis of scores in percent."""
    lower = ", lower is better" if report.direction == "min" else ""
    return f"{split} {words(report.primary or 'score')} (%){lower}"


def limits(values: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """Return limits that hold all values, and the ends of intervals up to as far again."""
    low, high = min(values), max(values)
    reach = max(high - low, 0.1)
    bottom = max(min([low, *ends]), low - reach)
    top = min(max([high, *ends]), high + reach)
    margin = 0.08 * max(top - bottom, reach)
    return bottom - margin, top + margin


def panel_title(axes: Axes, text: str, pad: float = 5) -> Text:
    """Write a small title above a panel."""
    return axes.set_title(text, fontsize=7, pad=pad, color=INK)


def level_ticks(axes: Axes, texts: Sequence[str], inches: float) -> None:
    """Name the levels along the x axis of a panel, aslant where they are too long for it."""
    names = [cut(text, LEVEL) for text in texts]
    axes.set_xticks(range(len(texts)), names, fontsize=6.5)
    if max(map(len, names)) * CHARACTER > 0.85 * inches / len(names):
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")


def ticks_room(texts: Sequence[str]) -> float:
    """Return inches below a panel for the names of levels, be they aslant."""
    longest = min(max(map(len, texts)), LEVEL)
    return 0.28 + (0.7 * CHARACTER * longest if longest > UPRIGHT else 0.0)
