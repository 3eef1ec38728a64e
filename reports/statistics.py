"""Whether the rows of a table differ: tests of scipy, corrected for how many there are.

``scipy.stats`` takes a second to import, so it is imported where a test is done.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
RESAMPLES = 1999
"""Of a bootstrap: p-values down to 0.001."""
SAME = 1e-9
"""Scores that are closer to each other differ by rounding alone."""
Test = Literal["paired bootstrap", "paired t-test", "Welch's t-test"]
_BATCH_NUMBERS = 500_000  # resampled rows that are held at once
_RNG_SEED = 0


@dataclass(frozen=True)
class Examples:
    """One run's score on each example.

    Attributes:
        asked: the same text for runs that were asked the same, in the same order.
        scores: float64 [examples]; their mean is the run's score.
    """

    asked: str
    scores: np.ndarray


@dataclass(frozen=True)
class Sample:
    """The scores of the runs of one row.

    Attributes:
        seeds: one a run, in rising order.
        scores: one a run.
        examples: by seed, where they are at hand.
    """

    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    examples: Mapping[int, Examples] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """The score of a row less that of the best row it is ranked with.

    Attributes:
        mean: in the unit of the scores.
        interval: of the mean, 95 %, of this difference alone; None where it cannot be tested.
        p: two-sided, of this difference alone; None where it cannot be tested.
        p_holm: ``p`` corrected for the number of differences that were tested with it.
        how: the test; None where it cannot be tested.
        seeds: how many each side rests on, the smaller number.
        examples: how many it rests on; None where it rests on the runs' scores alone.
        reason: why it cannot be tested; None where it can.
    """

    mean: float
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None
    how: Test | None = None
    seeds: int = 1
    examples: int | None = None
    reason: str | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the corrected test tells the two rows apart at 5 %."""
        return self.p_holm is not None and self.p_holm < ALPHA


def differences_to_first(samples: Sequence[Sample]) -> list[Difference]:
    """Return how all samples but the first differ from it, corrected for their number.

    Args:
        samples: of rows that are ranked together; the first is the one with the best mean.
    """
    found = [difference(sample, samples[0]) for sample in samples[1:]]
    corrected = iter(holm([d.p for d in found if d.p is not None]))
    return [d if d.p is None else replace(d, p_holm=next(corrected)) for d in found]


def difference(sample: Sample, other: Sample) -> Difference:
    """Return the scores of ``sample`` less those of ``other``, with an uncorrected test.

    Where both runs' scores on the same examples are at hand for common seeds, examples and seeds
    are resampled in pairs. Where both have several runs, a t-test over the runs is done as well:
    paired where their seeds are the same, else Welch's. Of two tests the one with the larger
    p-value is returned, since a bootstrap over few seeds has too narrow an interval.
    """
    tests = [_over_examples(sample, other), _over_seeds(sample, other)]
    done = [test for test in tests if test is not None and test.p is not None]
    if done:
        return max(done, key=lambda test: test.p or 0.0)
    several = min(len(sample.seeds), len(other.seeds)) > 1
    return Difference(
        mean=float(np.mean(sample.scores) - np.mean(other.scores)),
        seeds=min(len(sample.seeds), len(other.seeds)),
        reason="seeds that do not vary" if several else "one seed and no scores by example",
    )


def holm(p_values: Sequence[float], tests: int | None = None) -> list[float]:
    """Return p-values corrected so that one false finding among them all is as rare as for one.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
    of Statistics 6, 1979.

    Args:
        p_values: of the tests that were done.
        tests: how many there are, those without data included; None for those that were done.
    """
    count = len(p_values) if tests is None else tests
    corrected, largest = [0.0] * len(p_values), 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=lambda n: p_values[n])):
        largest = max(largest, min(1.0, (count - done) * p_values[place]))
        corrected[place] = largest
    return corrected


def bootstrap_mean(values: np.ndarray) -> tuple[tuple[float, float], float]:
    """Return a 95 % percentile interval and the two-sided p-value of a mean of paired differences.

    Seeds and examples are resampled apart from each other, as both are samples of many; a single
    seed is kept. The p-value is the smallest level whose interval excludes zero. The generator is
    fixed: the same values give the same result.

    Source: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007; Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, sections 13.3 and 15.4; Phipson and
    Smyth, "Permutation p-values should never be zero", 2010, for the one that is added.

    Args:
        values: float64 [seeds, examples], at least two examples.
    """
    from scipy.stats import bootstrap

    seeds, examples = values.shape

    def mean(*drawn: Any, axis: int) -> Any:  # noqa: ARG001 - scipy names the axis: the last one
        means = _resampled(values, drawn[-1].astype(np.intp))  # [..., seeds]
        if seeds > 1:
            means = np.take_along_axis(means, drawn[0].astype(np.intp), axis=-1)
        return means.mean(axis=-1)

    both = (np.arange(seeds), np.arange(examples))
    result = bootstrap(
        both if seeds > 1 else both[1:],
        mean,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_NUMBERS // examples),
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        random_state=np.random.default_rng(_RNG_SEED),
    )
    drawn = result.bootstrap_distribution
    beyond = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    interval = result.confidence_interval
    p = min(1.0, 2 * (1 + int(beyond)) / (RESAMPLES + 1))
    return (float(interval.low), float(interval.high)), p


def _resampled(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean of every seed over drawn examples: how often each was drawn, times its value.

    Args:
        values: float64 [seeds, examples].
        rows: int64 [..., examples], numbers of examples.

    Returns:
        float64 [..., seeds].
    """
    size = rows.shape[-1]
    draws = rows.reshape(-1, size)
    places = draws + size * np.arange(len(draws))[:, None]
    counts = np.bincount(places.ravel(), minlength=draws.size).reshape(draws.shape)
    return (counts @ values.T / size).reshape(*rows.shape[:-1], len(values))


def _over_examples(sample: Sample, other: Sample) -> Difference | None:
    """Return the paired bootstrap of the common seeds; None where examples are not at hand."""
    common = [seed for seed in sample.seeds if seed in other.seeds]
    if not common or not all(s in sample.examples and s in other.examples for s in common):
        return None
    pairs = [(sample.examples[seed], other.examples[seed]) for seed in common]
    if len({examples.asked for pair in pairs for examples in pair}) > 1:
        return None
    values = np.stack([one.scores - two.scores for one, two in pairs])
    if values.shape[1] < 2:
        return None
    interval, p = bootstrap_mean(values)
    return Difference(
        mean=float(values.mean()),
        interval=interval,
        p=p,
        how="paired bootstrap",
        seeds=len(common),
        examples=values.shape[1],
    )


def _over_seeds(sample: Sample, other: Sample) -> Difference | None:
    """Return the t-test over runs; None where a side has one run, or nothing varies.

    Where all seeds give the same difference, its spread of zero would make any of them certain.
    """
    from scipy.stats import ttest_ind, ttest_rel

    own, others = np.asarray(sample.scores), np.asarray(other.scores)
    if min(len(own), len(others)) < 2:
        return None
    if sample.seeds == other.seeds and len(set(sample.seeds)) == len(own):
        if np.ptp(own - others) < SAME:
            return None
        how: Test = "paired t-test"
        test = ttest_rel(own, others)
    else:
        if max(np.ptp(own), np.ptp(others)) < SAME:
            return None
        how = "Welch's t-test"
        with warnings.catch_warnings():  # of a side that does not vary: the test rests on the other
            warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
            test = ttest_ind(own, others, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    return Difference(
        mean=float(own.mean() - others.mean()),
        interval=(float(low), float(high)),
        p=float(test.pvalue),
        how=how,
        seeds=min(len(own), len(others)),
    )
