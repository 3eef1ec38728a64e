"""Effects over tasks and seeds: intervals, p-values, and how many seeds a decision would take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from reports.statistics import Examples

RESAMPLES = 10_000
RNG_SEED = 0
POWER = 0.8
LEVEL = 0.05
MIN_SEEDS = 5
MIN_TASKS = 2
MOST_SEEDS = 1000

Values = Mapping[str, Sequence[float]]
"""By task, one value for each seed."""
ByExample = Mapping[str, Sequence[Examples | None]]
"""Likewise, the effect on every test example; None where it is not known."""
_BATCH_NUMBERS = 5_000_000  # counts of drawn examples that are held at once


@dataclass(frozen=True)
class Bootstrap:
    """The distribution of a mean effect under resampling.

    Attributes:
        effect: the mean over tasks of the means over seeds.
        draws: the same of every resample.
    """

    effect: float
    draws: NDArray[np.float64]

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the percentile interval."""
        tail = 50 * (1 - confidence)
        low, high = np.percentile(self.draws, [tail, 100 - tail])
        return float(low), float(high)

    def p_above(self, bound: float) -> float:
        """Return the one-sided p-value of "the effect is no larger than ``bound``"."""
        return (1 + int(np.sum(self.draws <= bound))) / (1 + len(self.draws))

    def p_below(self, bound: float) -> float:
        """Return the one-sided p-value of "the effect is no smaller than ``bound``"."""
        return (1 + int(np.sum(self.draws >= bound))) / (1 + len(self.draws))


def hierarchical_bootstrap(
    values: Values, resamples: int = RESAMPLES, *, examples: ByExample | None = None
) -> Bootstrap:
    """Resample tasks and, within every task drawn, its seeds and its test examples.

    The seeds of one task are no independent draws of what a method does elsewhere, so that tests
    on the pooled values would be too sure of themselves. Within a task, seeds and examples are
    crossed: all its seeds answer the same test set, so that a resample draws its examples once,
    for all seeds. Drawn anew for every seed, their error would average out over seeds, which it
    does not: more seeds make no larger test set. The same values give the same numbers.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8; Owen,
    "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007, for crossed samples.

    Args:
        values: of at least one task, each with at least one seed.
        resamples: how many.
        examples: where they are known; None for nowhere.
    """
    rng = np.random.default_rng(RNG_SEED)
    names = sorted(values)
    chosen = rng.integers(len(names), size=(resamples, len(names)))
    drawn = np.empty(chosen.shape)
    for place, name in enumerate(names):
        own = np.asarray(values[name], dtype=np.float64)
        held = examples[name] if examples else [None] * len(own)
        here = chosen == place
        drawn[here] = _resampled_means(own, held, int(here.sum()), rng)
    effect = float(np.mean([np.mean(values[name]) for name in names]))
    return Bootstrap(effect, drawn.mean(axis=1))


def _resampled_means(
    seeds: NDArray[np.float64],
    examples: Sequence[Examples | None],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the means of ``count`` resamples of a task's seeds and its test examples."""
    picks = rng.integers(len(seeds), size=(count, len(seeds)))
    errors = np.zeros((count, len(seeds)))
    for alike in _by_test_set(examples):
        scores = np.stack([own.scores for _, own in alike])
        errors[:, [seed for seed, _ in alike]] = _example_errors(scores, count, rng)
    return (seeds[picks] + np.take_along_axis(errors, picks, axis=1)).mean(axis=1)


def _by_test_set(examples: Sequence[Examples | None]) -> list[list[tuple[int, Examples]]]:
    """Return the numbers of the seeds that were asked the same, with what they scored."""
    found: dict[str, list[tuple[int, Examples]]] = {}
    for seed, own in enumerate(examples):
        if own is not None:
            found.setdefault(own.asked, []).append((seed, own))
    return list(found.values())


def _example_errors(
    scores: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return by how much every seed's mean over ``count`` resamples of examples misses its mean.

    Examples are right or wrong, so that few columns occur: how often each is drawn is multinomial.

    Args:
        scores: [seeds, examples].
        count: of resamples; each draws the same examples for all seeds.
        rng: drawn from.

    Returns:
        [count, seeds].
    """
    size = scores.shape[1]
    columns, times = np.unique(scores, axis=1, return_counts=True)
    errors = np.empty((count, len(scores)))
    step = max(1, _BATCH_NUMBERS // len(times))
    for start in range(0, count, step):
        batch = errors[start : start + step]
        batch[:] = rng.multinomial(size, times / size, size=len(batch)) @ columns.T / size
    return errors - scores.mean(axis=1)


def within_deviation(values: Values) -> float | None:
    """Return the pooled standard deviation of seeds within tasks; None where every task has one."""
    squares = sum(float(np.var(seeds)) * len(seeds) for seeds in values.values())
    freedom = sum(len(seeds) - 1 for seeds in values.values())
    return (squares / freedom) ** 0.5 if freedom else None


def seeds_needed(deviation: float, distance: float, tasks: int) -> int | None:
    """Return the seeds a task with which an effect this far from its bound would be decided.

    Of a two-sided test at 5 % with a power of 80 %: n = ((z_.975 + z_.8) sd / distance)^2 values.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, section 2.4.

    Args:
        deviation: of the seeds within a task.
        distance: of the effect from the bound, in the same unit.
        tasks: over which the seeds are spread.

    Returns:
        At least the five that a claim takes; None for more than a thousand.
    """
    if distance == 0:
        return None
    quantiles = float(norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER))
    values = (quantiles * deviation / distance) ** 2
    each = max(MIN_SEEDS, ceil(values / tasks)) if values < MOST_SEEDS * tasks else MOST_SEEDS + 1
    return each if each <= MOST_SEEDS else None
