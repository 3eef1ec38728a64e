"""The figure of how every point of a study learned."""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.figures import FAINT
from reports.labels import cut
from reports.sheet import Foot, Margins, sheet
from reports.studies import wording
from reports.studies.design import ScoredRun
from reports.studies.look import NAME, level_colours, score_name
from reports.studies.summary import StudyReport


def learning_curves(report: StudyReport) -> Figure | None:
    """Draw the validation score over epochs, coloured by the factor that moves the score most."""
    groups = groupby(report.design.runs, key=lambda run: run.levels)
    curves = {levels: _mean_curve(list(runs)) for levels, runs in groups}
    if not any(len(curve) > 1 for curve in curves.values()):
        return None
    axis = most_important(report)
    colours, keys = _colours(report, axis)
    foot = Foot(keys, f"{wording.title(report)}. One line a setting: mean over its seeds.", 4)
    figure, (axes,) = sheet([2.2], foot, 1, Margins(left=0.5, right=0.14, top=0.12, bottom=0.42))
    for levels, curve in curves.items():
        level = None if axis is None else levels[axis]
        colour = FAINT if level is None else colours[level]
        epochs, scores = list(curve), [100 * score for score in curve.values()]
        axes.plot(epochs, scores, color=colour, linewidth=0.8, alpha=0.75)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.set_ylabel(score_name(report, "validation"))
    return figure


def most_important(report: StudyReport) -> int | None:
    """Return the position of the factor with the largest share of the score's variance."""
    effects = report.score.analysis.effects if report.score else ()
    known = [effect for effect in effects if effect.share is not None]
    return max(known, key=lambda effect: effect.share or 0.0).axis if known else None


def _mean_curve(runs: Sequence[ScoredRun]) -> dict[int, float]:
    """Return the mean validation score of the epochs that all seeds have."""
    scores: dict[int, list[float]] = {}
    for run in runs:
        for row in run.record.history:
            if run.record.metrics.primary in row.val:
                scores.setdefault(row.epoch, []).append(row.val[run.record.metrics.primary])
    return {epoch: fmean(own) for epoch, own in sorted(scores.items()) if len(own) == len(runs)}


def _colours(report: StudyReport, axis: int | None) -> tuple[list[str], dict[str, Artist]]:
    """Return the colour of each level of a factor, and their legend."""
    if axis is None:
        return [], {}
    factor = report.design.factors[axis]
    colours = level_colours(factor)
    keys: dict[str, Artist] = {
        cut(f"{factor.label}={text}", NAME): Line2D([], [], color=colour, linewidth=1.4)
        for text, colour in zip(factor.texts, colours, strict=True)
    }
    if any(run.levels[axis] is None for run in report.design.runs):
        keys[cut(f"no {factor.label}", NAME)] = Line2D([], [], color=FAINT, linewidth=1.4)
    return colours, keys
