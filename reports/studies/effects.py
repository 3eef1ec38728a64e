"""Main effects and two-way interactions of a design's factors, with their shares of variance.

A factor that does not apply to every run is analysed among the runs that have it, with the other
factors that all of these have; two factors among the runs that have both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from reports.studies import model
from reports.studies.fitting import Fit, Observation, Scope, fit_runs
from reports.studies.model import Estimate


@dataclass(frozen=True)
class MainEffect:
    """The effect of each level of a factor.

    Attributes:
        axis: position of the factor.
        levels: those that occur.
        means: of the runs at each level.
        effects: deviations from the mean over all combinations; None where confounded.
        share: of the sum of squares; None without variance or where confounded.
        scope: the runs that have this factor.
    """

    axis: int
    levels: tuple[int, ...]
    means: tuple[float, ...]
    effects: tuple[Estimate, ...] | None
    share: float | None
    scope: Scope


@dataclass(frozen=True)
class Interaction:
    """What two factors do together beyond the sum of their effects.

    Attributes:
        axes: positions of the factors, of the rows and of the columns.
        rows, columns: their levels that occur.
        means: ``[rows][columns]`` of the runs; None where there is none.
        contrasts: ``[rows][columns]``: the cell's mean less the row's and the column's plus the
            grand mean, as fitted; None where the pair was left out of the model.
        share: of the sum of squares; None without variance or where left out.
        scope: the runs that have both factors.
    """

    axes: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    means: tuple[tuple[float | None, ...], ...]
    contrasts: tuple[tuple[Estimate, ...], ...] | None
    share: float | None
    scope: Scope


@dataclass(frozen=True)
class Analysis:
    """The factors' effects on one outcome.

    Attributes:
        effects: of the factors with two levels or more, in their order.
        interactions: of each two of them that occur together.
        scopes: every set of runs that was analysed, the largest first.
    """

    effects: tuple[MainEffect, ...]
    interactions: tuple[Interaction, ...]
    scopes: tuple[Scope, ...]


def analyse(observations: Sequence[Observation], sizes: Sequence[int]) -> Analysis:
    """Estimate main effects and two-way interactions by least squares.

    Shares are of type II: what a term explains beyond all terms that do not contain it. In a
    balanced design they are the classical ones and sum to one with what the scopes leave.
    Source: Langsrud, "ANOVA for unbalanced data: use type II instead of type III sums of squares",
    Statistics and Computing 13, 2003.

    Args:
        observations: in any order; every setting and seed at most once.
        sizes: how many levels each factor has in the design.
    """
    known = sorted(observations, key=_order)
    fits: dict[tuple[Observation, ...], Fit] = {}

    def fit_among(axes: Sequence[int]) -> Fit | None:
        runs = tuple(o for o in known if all(o.levels[axis] is not None for axis in axes))
        if runs and runs not in fits:
            fits[runs] = fit_runs(runs, sizes if len(runs) == len(known) else [0] * len(sizes))
        return fits.get(runs)

    effects = [
        _main_effect(axis, fit)
        for axis in range(len(sizes))
        if (fit := fit_among([axis])) and axis in fit.varied
    ]
    interactions = [
        _interaction(pair, fit)
        for pair in combinations(range(len(sizes)), 2)
        if (fit := fit_among(pair)) and fit.varied.issuperset(pair)
    ]
    used = [*(effect.scope for effect in effects), *(pair.scope for pair in interactions)]
    scopes = sorted(dict.fromkeys(used), key=lambda scope: -scope.runs)
    return Analysis(tuple(effects), tuple(interactions), tuple(scopes))


def _order(observation: Observation) -> tuple[tuple[int, ...], int]:
    levels = tuple(-1 if level is None else level for level in observation.levels)
    return levels, observation.seed


def _main_effect(axis: int, fit: Fit) -> MainEffect:
    term = next(term for term in fit.mains if term.axes == (axis,))
    levels = fit.levels[axis]
    told = axis not in fit.scope.confounded
    estimates = model.estimates(term, fit.main_model, fit.outcomes, fit.scope.error)
    return MainEffect(
        axis=axis,
        levels=levels,
        means=tuple(fmean(_values(fit, {axis: level})) for level in levels),
        effects=tuple(estimates) if told else None,
        share=fit.share(term) if told else None,
        scope=fit.scope,
    )


def _interaction(pair: tuple[int, int], fit: Fit) -> Interaction:
    term = next((term for term in fit.pairs if term.axes == pair), None)
    rows, columns = (fit.levels[axis] for axis in pair)
    cells = [[_values(fit, dict(zip(pair, (r, c), strict=True))) for c in columns] for r in rows]
    contrasts = None
    if term is not None:
        flat = model.estimates(term, (*fit.mains, *fit.pairs), fit.outcomes, fit.pair_error)
        width = len(columns)
        contrasts = tuple(tuple(flat[i * width : (i + 1) * width]) for i in range(len(rows)))
    return Interaction(
        axes=pair,
        rows=rows,
        columns=columns,
        means=tuple(tuple(fmean(own) if own else None for own in row) for row in cells),
        contrasts=contrasts,
        share=fit.share(term) if term is not None else None,
        scope=fit.scope,
    )


def _values(fit: Fit, setting: dict[int, int]) -> list[float]:
    """Return the outcomes of the runs that have these levels."""
    return [
        run.value
        for run in fit.runs
        if all(run.levels[axis] == level for axis, level in setting.items())
    ]
