"""Effects over tasks and seeds: intervals, p-values, and how many seeds a decision would take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

RESAMPLES = 10_000
RNG_SEED = 0
POWER = 0.8
LEVEL = 0.05
MIN_SEEDS = 5
MIN_TASKS = 2
MOST_SEEDS = 1000

Values = Mapping[str, Sequence[float]]
"""By task, one value for each seed."""
Examples = Mapping[str, Sequence[NDArray[np.float64] | None]]
"""Likewise, the effect on every test example; None where it is not known."""


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
    values: Values, resamples: int = RESAMPLES, *, examples: Examples | None = None
) -> Bootstrap:
    """Resample tasks, the seeds of every task drawn, and the examples of every seed drawn.

    The seeds of one task are no independent draws of what a method does elsewhere, so that tests
    on the pooled values would be too sure of themselves. The same values give the same numbers.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.

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
    examples: Sequence[NDArray[np.float64] | None],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the means of ``count`` resamples of a task's seeds and their examples."""
    picks = rng.integers(len(seeds), size=(count, len(seeds)))
    drawn = seeds[picks]
    for seed, own in enumerate(examples):
        if own is not None:
            here = picks == seed
            drawn[here] += _example_errors(own, int(here.sum()), rng)
    return drawn.mean(axis=1)


def _example_errors(
    own: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return by how much the means of ``count`` resamples of examples miss their own mean.

    Examples are right or wrong, so that few values occur: how often each is drawn is multinomial.
    """
    levels, times = np.unique(own, return_counts=True)
    drawn = rng.multinomial(len(own), times / len(own), size=count)
    return drawn @ levels / len(own) - own.mean()


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
