"""The model of one set of runs: which terms can be told apart, and what its intervals rest on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from statistics import fmean
from typing import Any, Literal

import numpy as np

from reports.studies import model
from reports.studies.design import Levels
from reports.studies.model import Error, Term

ErrorSource = Literal["seeds", "residual", "two-way interactions", "none"]
LISTED = 100
"""Missing combinations that are named; a sampled study may lack millions."""
NEGLIGIBLE = 1e-24
"""A sum of squares below this share of the outcomes' own is rounding."""


@dataclass(frozen=True)
class Observation:
    """The outcome of one run."""

    levels: Levels
    seed: int
    value: float


@dataclass(frozen=True)
class Scope:
    """Among which runs something was estimated, and what its intervals rest on.

    Attributes:
        axes: positions of the factors that all of these runs have.
        runs: how many.
        points: how many settings they have, all factors regarded.
        combinations: of the levels of ``axes``, run or not.
        balanced: whether every combination has the same seeds.
        missing: the first of the combinations without a run, 100 at most.
        missing_count: how many there are.
        error_source: what the variance of one run was estimated from: the spread between seeds,
            what main effects and two-way interactions leave, or, where these leave nothing, the
            two-way interactions themselves.
        error: that variance, in squares of the outcome's unit.
        mean: the fitted mean over all combinations, every one alike.
        confounded: factors whose effects cannot be told from those of others.
        left_out: pairs whose interaction cannot be told apart in these runs.
        higher_order_share: of the sum of squares, what main effects and two-way interactions leave
            between the settings; None without variance.
        seeds_share: likewise, what differs between the seeds of a setting; None with one seed each.
    """

    axes: tuple[int, ...]
    runs: int
    points: int
    combinations: int
    balanced: bool
    missing: tuple[Levels, ...]
    missing_count: int
    error_source: ErrorSource
    error: Error
    mean: float
    confounded: tuple[int, ...]
    left_out: tuple[tuple[int, ...], ...]
    higher_order_share: float | None
    seeds_share: float | None


@dataclass(frozen=True, eq=False)
class Fit:
    """A model of some runs.

    Attributes:
        runs: in the order of their levels and seeds.
        outcomes: ``[runs]``.
        levels: those that occur, by factor.
        mains: the factors with two levels or more.
        pairs: the interactions that can be told apart.
        main_model: the terms beside which main effects are estimated: without the interactions
            where these are the error.
        pair_error: of the interactions' contrasts.
        scope: the rest.
    """

    runs: tuple[Observation, ...]
    outcomes: np.ndarray
    levels: dict[int, tuple[int, ...]]
    mains: tuple[Term, ...]
    pairs: tuple[Term, ...]
    main_model: tuple[Term, ...]
    pair_error: Error
    scope: Scope

    @property
    def varied(self) -> frozenset[int]:
        """Positions of the factors with two levels or more."""
        return frozenset(term.axes[0] for term in self.mains)

    def share(self, term: Term) -> float | None:
        """Return the share of the sum of squares that a term explains, of type II."""
        others = [
            other
            for other in (*self.mains, *self.pairs)
            if other is not term and not set(term.axes) < set(other.axes)
        ]
        without = model.squares(others, self.outcomes)
        return _share(without - model.squares([*others, term], self.outcomes), self.outcomes)


def fit_runs(runs: tuple[Observation, ...], sizes: Sequence[int]) -> Fit:
    """Fit main effects and two-way interactions to runs that share some factors.

    Args:
        runs: at least one.
        sizes: how many levels each factor should have in these runs; 0: those that occur.
    """
    outcomes = np.asarray([run.value for run in runs])
    axes = [a for a in range(len(sizes)) if all(run.levels[a] is not None for run in runs)]
    levels = {axis: tuple(sorted({_level(run, axis) for run in runs})) for axis in axes}
    mains = [_main_term(a, levels[a], runs) for a in axes if len(levels[a]) > 1]
    pairs, left_out = _interactions(mains, runs)
    source, error = _error(runs, mains, pairs, outcomes)
    main_model = mains if source == "two-way interactions" else [*mains, *pairs]
    _, confounded = _split(mains, [t for t in main_model if t not in mains], len(runs))
    seeds = _within(runs)[0]
    scope = Scope(
        axes=tuple(axes),
        runs=len(runs),
        points=len({run.levels for run in runs}),
        error_source=source,
        error=error,
        mean=model.intercept(main_model, outcomes),
        confounded=tuple(term.axes[0] for term in confounded),
        left_out=tuple(term.axes for term in left_out),
        higher_order_share=_share(model.squares([*mains, *pairs], outcomes) - seeds, outcomes),
        seeds_share=_share(seeds, outcomes) if _within(runs)[1] else None,
        **_balance(runs, axes, [range(sizes[a]) if sizes[a] else levels[a] for a in axes]),
    )
    return Fit(
        runs=runs,
        outcomes=outcomes,
        levels=levels,
        mains=tuple(mains),
        pairs=tuple(pairs),
        main_model=tuple(main_model),
        pair_error=Error(None, 0) if source == "two-way interactions" else error,
        scope=scope,
    )


def _level(run: Observation, axis: int) -> int:
    level = run.levels[axis]
    assert level is not None
    return level


def _main_term(axis: int, levels: Sequence[int], runs: Sequence[Observation]) -> Term:
    rows = np.asarray([levels.index(_level(run, axis)) for run in runs])
    return model.main_term(axis, rows, len(levels))


def _interactions(
    mains: Sequence[Term], runs: Sequence[Observation]
) -> tuple[list[Term], list[Term]]:
    """Return the interactions that the model has, and those that it leaves out.

    Of a design with less than half of its combinations, a model with nearly as many columns as
    settings would give to interactions what belongs to main effects, so it has none.
    """
    every = model.pair_terms(mains)
    columns = model.matrix([*mains, *every], len(runs)).shape[1]
    points, combinations = len({run.levels for run in runs}), prod(len(t.coding) for t in mains)
    if 2 * points < combinations and points < 2 * columns:
        return [], every
    return _split(every, mains, len(runs))


def _split(
    terms: Sequence[Term], others: Sequence[Term], runs: int
) -> tuple[list[Term], list[Term]]:
    """Return the terms that can be told apart beside ``others``, and those that cannot."""
    told = model.estimable([*terms, *others], runs)[: len(terms)]
    known = [term for term, is_told in zip(terms, told, strict=True) if is_told]
    return known, [term for term in terms if term not in known]


def _error(
    runs: Sequence[Observation], mains: list[Term], pairs: list[Term], outcomes: np.ndarray
) -> tuple[ErrorSource, Error]:
    """Return the variance of one run: of seeds where most settings have several."""
    squares, freedom, repeated = _within(runs)
    if 2 * repeated >= len({run.levels for run in runs}):
        return "seeds", Error(squares / freedom, freedom)
    left = model.residual([*mains, *pairs], outcomes)
    if left.freedom:
        return "residual", left
    additive = model.residual(mains, outcomes)
    return ("two-way interactions", additive) if additive.freedom else ("none", additive)


def _within(runs: Sequence[Observation]) -> tuple[float, int, int]:
    """Return squares and degrees of freedom within settings, and how many have several seeds."""
    settings: dict[Levels, list[float]] = defaultdict(list)
    for run in runs:
        settings[run.levels].append(run.value)
    squares = sum(sum((v - fmean(values)) ** 2 for v in values) for values in settings.values())
    repeated = sum(len(values) > 1 for values in settings.values())
    return squares, len(runs) - len(settings), repeated


def _balance(
    runs: Sequence[Observation], axes: Sequence[int], levels: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Return the parts of a scope that say which combinations have been run."""
    seeds: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for run in runs:
        seeds[tuple(_level(run, axis) for axis in axes)].append(run.seed)
    width = len(runs[0].levels)
    without = (combination for combination in product(*levels) if combination not in seeds)
    combinations = prod(map(len, levels))
    alike = len({tuple(sorted(own)) for own in seeds.values()}) == 1
    return {
        "combinations": combinations,
        "balanced": alike and len(seeds) == combinations,
        "missing": tuple(_spread(one, axes, width) for one in islice(without, LISTED)),
        "missing_count": combinations - len(seeds),
    }


def _spread(combination: Sequence[int], axes: Sequence[int], width: int) -> Levels:
    found = dict(zip(axes, combination, strict=True))
    return tuple(found.get(axis) for axis in range(width))


def _share(squares: float, outcomes: np.ndarray) -> float | None:
    total = float(np.sum((outcomes - outcomes.mean()) ** 2))
    if total <= NEGLIGIBLE * float(np.sum(outcomes**2)):
        return None
    return min(max(squares / total, 0.0), 1.0)
