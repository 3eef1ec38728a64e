"""fANOVA importances of a design's factors, by Optuna: a second opinion beside sums of squares."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from reports.studies.fitting import Observation

NEEDED = "sklearn"
ROUNDING = 1e-12
"""Outcomes that differ by less than this share of their size are the same."""


def unavailable() -> str | None:
    """Return why there are no fANOVA importances here, or None where there are."""
    if find_spec(NEEDED) is None:
        return "fANOVA importances need the package scikit-learn, which is not installed"
    return None


def fanova(observations: Sequence[Observation], factors: int) -> list[float | None]:
    """Return for each factor the share of variance that it alone explains in a random forest.

    A factor that does not apply to every run is judged among those that have it. Levels are
    categories, every one alike. Source: Hutter, Hoos and Leyton-Brown, "An efficient approach for
    assessing hyperparameter importance", ICML 2014, as ``FanovaImportanceEvaluator`` does it. The
    shares of all subsets of factors sum to one, so those of single factors sum to less.

    Args:
        observations: in the order of their levels and seeds; the forest depends on it.
        factors: how many the design has.

    Returns:
        None for a factor with fewer than two levels among the runs that have it, or where these
        runs all have the same outcome.
    """
    known: dict[tuple[Observation, ...], dict[int, float]] = {}
    shares: list[float | None] = []
    for axis in range(factors):
        runs = tuple(run for run in observations if run.levels[axis] is not None)
        if len({run.levels[axis] for run in runs}) < 2 or not _varies(runs):
            shares.append(None)
            continue
        if runs not in known:
            known[runs] = _evaluate(runs, factors)
        shares.append(known[runs][axis])
    return shares


def _varies(runs: Sequence[Observation]) -> bool:
    values = [run.value for run in runs]
    return max(values) - min(values) > ROUNDING * max(map(abs, values))


def _evaluate(runs: Sequence[Observation], factors: int) -> dict[int, float]:
    """Return the shares of the factors that all of these runs have."""
    import optuna

    distributions = {
        str(axis): optuna.distributions.CategoricalDistribution(
            sorted({level for run in runs if (level := run.levels[axis]) is not None})
        )
        for axis in range(factors)
        if all(run.levels[axis] is not None for run in runs)
    }
    with _quiet():
        study = optuna.create_study()
    for run in runs:
        study.add_trial(
            optuna.trial.create_trial(
                params={name: run.levels[int(name)] for name in distributions},
                distributions=distributions,
                value=run.value,
            )
        )
    shares = optuna.importance.FanovaImportanceEvaluator(seed=0).evaluate(study)
    return {int(name): float(share) for name, share in shares.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing a study that is a mere container."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
