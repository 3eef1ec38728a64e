"""Figures of what moves the score: main effects, interactions, and shares of variance."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reports.figures import FAINT, INK
from reports.labels import cut
from reports.sheet import SMALL, WIDTH, Foot, Margins, sheet
from reports.studies import wording
from reports.studies.effects import Interaction, MainEffect
from reports.studies.look import (
    CHARACTER,
    FRONT,
    NAME,
    ROW,
    SECOND,
    level_ticks,
    limits,
    panel_title,
    score_name,
    ticks_room,
)
from reports.studies.summary import Shares, StudyReport

WIDE = 6
"""Interactions of more levels than this get a panel of the whole width."""


def main_effects(report: StudyReport) -> Figure | None:
    """Draw the fitted mean score of every level with its interval, one panel a factor."""
    effects = [e for e in report.score.analysis.effects if e.effects] if report.score else []
    if not effects:
        return None
    columns = min(len(effects), 3)
    foot = Foot(
        {},
        f"{wording.title(report)}. Dots: fitted mean over the other factors; bars: 95 % interval "
        "of its distance from the mean of all (line); above: the factor's share of the variance.",
    )
    texts = [report.design.factors[e.axis].texts[level] for e in effects for level in e.levels]
    margins = Margins(left=0.5, right=0.08, top=0.3, bottom=ticks_room(texts))
    figure, panels = sheet([1.5] * len(effects), foot, columns, margins)
    low, high = _score_limits(effects)
    for number, (axes, effect) in enumerate(zip(panels, effects, strict=True)):
        _draw_effect(axes, effect, report)
        axes.set_ylim(low, high)
        axes.tick_params(axis="y", labelsize=6.5, labelleft=number % columns == 0)
        if number % columns == 0:
            axes.set_ylabel(score_name(report, "test"), fontsize=7)
    return figure


def interactions(report: StudyReport) -> Figure | None:
    """Draw the mean score of each two factors' levels, one panel a pair."""
    pairs = report.score.analysis.interactions if report.score else ()
    if not pairs:
        return None
    columns = 1 if any(len(pair.columns) > WIDE for pair in pairs) else min(len(pairs), 2)
    foot = Foot(
        {},
        f"{wording.title(report)}. Mean {score_name(report, 'test')} of the runs with both levels; "
        "above: the share of the variance that is the interaction's alone.",
    )
    texts = [report.design.factors[p.axes[1]].texts[level] for p in pairs for level in p.columns]
    bottom = 0.14 + ticks_room(texts)
    names = [report.design.factors[p.axes[0]].texts[level] for p in pairs for level in p.rows]
    left = 0.36 + CHARACTER * min(max(map(len, names)), ROW)
    margins = Margins(left=left, right=0.1, top=0.3, bottom=bottom)
    heights = [0.1 + 0.24 * len(pair.rows) for pair in pairs]
    figure, panels = sheet(heights, foot, columns, margins)
    means = [100 * mean for pair in pairs for row in pair.means for mean in row if mean is not None]
    colours = Normalize(min(means), max(means))
    for axes, pair in zip(panels, pairs, strict=True):
        _draw_means(axes, pair, report, colours)
    return figure


def importances(report: StudyReport) -> Figure | None:
    """Draw the shares of variance of score and peak memory: sums of squares beside fANOVA."""
    known = {name: own for name, o in report.outcomes.items() if (own := report.shares(o))}
    if not known:
        return None
    terms = list(dict.fromkeys(term for own in known.values() for term in own))
    keys = {"sum of squares": Patch(color=FRONT)}
    if not report.fanova_missing:
        keys["fANOVA (single factors)"] = Patch(color=SECOND)
    foot = Foot(dict(keys), f"{wording.title(report)}. {_among(report)}")
    margins = Margins(left=0.12, right=0.08, top=0.3, bottom=0.42)
    figure, panels = sheet([0.2 + 0.22 * len(terms)] * len(known), foot, len(known), margins)
    names = [cut(term, NAME) for term in terms]
    _shift(panels, left=0.15 + 0.056 * max(map(len, names)))
    for axes, (name, shares) in zip(panels, known.items(), strict=True):
        _draw_shares(axes, [shares.get(term) for term in terms], not report.fanova_missing)
        panel_title(axes, f"test {name}" if name == "score" else name)
    panels[0].set_yticks(range(len(terms)), names, fontsize=SMALL)
    return figure


def _score_limits(effects: Sequence[MainEffect]) -> tuple[float, float]:
    known = [(e.scope.mean, estimate) for e in effects for estimate in e.effects or ()]
    values = [100 * (mean + estimate.value) for mean, estimate in known]
    ends = [100 * (m + end) for m, e in known for end in (e.low, e.high) if end is not None]
    return limits(values, ends)


def _draw_effect(axes: Axes, effect: MainEffect, report: StudyReport) -> None:
    factor, mean = report.design.factors[effect.axis], effect.scope.mean
    axes.axhline(100 * mean, color=FAINT, linewidth=0.8)
    heights = [100 * (mean + estimate.value) for estimate in effect.effects or ()]
    if factor.is_numeric:
        axes.plot(range(len(heights)), heights, color=FRONT, linewidth=0.8, alpha=0.5)
    for x, estimate in enumerate(effect.effects or ()):
        if estimate.low is not None and estimate.high is not None:
            ends = [100 * (mean + estimate.low), 100 * (mean + estimate.high)]
            axes.plot([x, x], ends, color=FRONT, linewidth=1, marker="_", markersize=6)
        axes.plot(x, heights[x], marker="o", markersize=3, color=FRONT)
    axes.set_xlim(-0.5, len(heights) - 0.5)
    texts = [factor.texts[level] for level in effect.levels]
    level_ticks(axes, texts, axes.get_position().width * WIDTH)
    share = "" if effect.share is None else f" ({100 * effect.share:.1f} %)"
    panel_title(axes, f"{cut(factor.label, 16)}{share}")


def _draw_means(axes: Axes, pair: Interaction, report: StudyReport, colours: Normalize) -> None:
    rows, columns = (report.design.factors[axis] for axis in pair.axes)
    means = np.asarray(
        [[np.nan if mean is None else 100 * mean for mean in row] for row in pair.means]
    )
    scale = mpl.colormaps["Blues"]
    axes.imshow(means, cmap=scale, norm=colours, aspect="auto", alpha=0.85)
    axes.grid(False)
    for (i, j), mean in np.ndenumerate(means):
        dark = np.isfinite(mean) and colours(mean) > 0.6
        text = f"{mean:.1f}" if np.isfinite(mean) else "–"
        axes.text(
            j, i, text, ha="center", va="center", fontsize=6.5, color="white" if dark else INK
        )
    texts = [columns.texts[level] for level in pair.columns]
    level_ticks(axes, texts, axes.get_position().width * WIDTH)
    names = [cut(rows.texts[level], ROW) for level in pair.rows]
    axes.set_yticks(range(len(names)), names, fontsize=6.5)
    axes.tick_params(length=0)
    axes.set_xlabel(cut(columns.label, NAME), fontsize=7)
    axes.set_ylabel(cut(rows.label, NAME), fontsize=7)
    share = "" if pair.share is None else f" ({100 * pair.share:.1f} %)"
    panel_title(axes, f"{cut(rows.label, 12)} × {cut(columns.label, 12)}{share}")


def _among(report: StudyReport) -> str:
    """Say what the shares are of, and whether terms are absent."""
    scopes = report.score.analysis.scopes if report.score else ()
    several = " among the settings that have the factor" if len(scopes) > 1 else ""
    absent = (
        " Interactions without a row could not be estimated."
        if any(scope.left_out for scope in scopes)
        else ""
    )
    return f"Shares{several} of the sum of squares are of type II.{absent}"


def _shift(panels: Sequence[Axes], left: float) -> None:
    """Give the panels the same width beside a column of names, ``left`` inches wide."""
    width = (WIDTH - left) / len(panels)
    for number, axes in enumerate(panels):
        box = axes.get_position()
        start = left + number * width
        axes.set_position((start / WIDTH, box.y0, (width - 0.2) / WIDTH, box.height))


def _draw_shares(axes: Axes, shares: Sequence[Shares | None], with_fanova: bool) -> None:
    height, offset = (0.36, 0.18) if with_fanova else (0.6, 0.0)
    for y, share in enumerate(shares):
        if share is not None and share.squares is not None:
            _bar(axes, y - offset, share.squares, height, FRONT)
        if share is not None and share.fanova is not None:
            _bar(axes, y + offset, share.fanova, height, SECOND)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xlim(0, 122)
    axes.set_xticks([0, 50, 100])
    axes.set_yticks(range(len(shares)), [""] * len(shares))
    axes.tick_params(axis="x", labelsize=6.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.grid(False, axis="y")
    axes.set_xlabel("share of variance (%)", fontsize=7)


def _bar(axes: Axes, y: float, share: float, height: float, colour: str) -> None:
    axes.barh(y, 100 * share, height=height, color=colour)
    axes.text(100 * share + 1.5, y, f"{100 * share:.1f}", va="center", fontsize=5.5, color=INK)
