"""The same number of validation-only trials for every method, before its fresh seeds.

Trials are runs of a seed of their own in the folder ``tuning`` of the output; they never open the
test split. They vary the learning rate, on a logarithmic grid with the method's own rate among
them; a best rate at the edge extends the grid, by a step at a time.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import exp, isclose, log
from typing import Any

from harness.cards import METHODS, TASKS
from harness.config import RunConfig, RunRequest, resolve
from harness.errors import UserError
from harness.matrix import run_matrix
from harness.matrix_view import MatrixView
from harness.record import Record
from harness.run_options import RunOptions

logger = logging.getLogger(__name__)

SEED = 1000
"""Of every trial; the seeds of the runs that are reported are others."""
MOST_STEPS = 3
"""How often a grid is extended at most."""


@dataclass(frozen=True)
class Tuned:
    """What the trials of one method on one task found.

    Attributes:
        method, task: their names.
        rate: the learning rate of the best validation score.
        scores: the validation score of every rate that came to an end, by rate.
        trials: how many were run.
        seconds: what they took.
    """

    method: str
    task: str
    rate: float
    scores: dict[float, float]
    trials: int
    seconds: float

    def data(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        scores = [{"rate": rate, "validation": s} for rate, s in sorted(self.scores.items())]
        return {**asdict(self), "scores": scores}


@dataclass
class Tuner:
    """Tunes requests; to be called with one after the other.

    Args:
        trials: for every method and task.
        workers: processes at a time.
        options: of the runs that are reported.

    Attributes:
        found: what was found, in the order of the calls.
    """

    trials: int
    workers: int
    options: RunOptions
    found: list[Tuned] = field(default_factory=list)

    def __call__(self, request: RunRequest) -> RunRequest:
        """Return the request with the learning rate of the best validation score.

        Raises:
            UserError: no trial came to an end.
        """
        config = resolve(request)
        card = TASKS.card(config.task.name)
        sign = 1.0 if card.metrics[card.primary] == "max" else -1.0
        rates = first_rates(config, self.trials)
        records = self._run(request, rates)
        for _ in range(MOST_STEPS):
            best = max(records, key=lambda rate: sign * _score(records[rate]), default=None)
            further = beyond(sorted(rates), best)
            if further is None:
                break
            rates.append(further)
            records |= self._run(request, [further])
        best = max(records, key=lambda rate: sign * _score(records[rate]), default=None)
        if best is None:
            raise UserError(
                f"None of the {len(rates)} trials of '{config.method.label}' on "
                f"'{config.task.name}' came to an end; its learning rate cannot be tuned."
            )
        tuned = Tuned(
            config.method.label,
            config.task.name,
            best,
            {rate: _score(record) for rate, record in records.items()},
            len(rates),
            sum(record.time.total_seconds for record in records.values() if record.time),
        )
        self.found.append(tuned)
        logger.info(
            "%s on %s: train.lr=%g is the best of %d rates (validation %.1f %%, %.0f s)",
            tuned.method,
            tuned.task,
            best,
            tuned.trials,
            100 * tuned.scores[best],
            tuned.seconds,
        )
        return with_rate(request, best)

    def _run(self, request: RunRequest, rates: Sequence[float]) -> dict[float, Record]:
        """Run a trial of every rate and return the records of those that came to an end."""
        options = replace(
            self.options, output=self.options.output / "tuning", tracking_uri="off", open_test=False
        )
        configs = [resolve(replace(with_rate(request, rate), seed=SEED)) for rate in rates]
        made = run_matrix(configs, self.workers, options, MatrixView(options.verbosity))
        if any(one.exit_code == 130 or _cancelled(one.record) for one in made):
            raise KeyboardInterrupt
        return {
            rate: one.record
            for rate, one in zip(rates, made, strict=True)
            if one.record is not None and one.record.status == "done"
        }


def first_rates(config: RunConfig, trials: int) -> list[float]:
    """Return ``trials`` learning rates: the configured one, and a grid over the method's range."""
    low, high = METHODS.card(config.method.name).rates
    own = config.train.lr
    rates = [own]
    step = (log(high) - log(low)) / max(1, trials - 1)
    grid = [exp(log(low) + step * i) for i in range(trials)]
    nearest = min(grid, key=lambda rate: abs(log(rate) - log(own)))
    rates += [round_rate(rate) for rate in grid if rate != nearest]
    return rates


def round_rate(rate: float) -> float:
    """Return a rate with three digits, as one would type it."""
    return float(f"{rate:.3g}")


def beyond(rates: Sequence[float], best: float | None) -> float | None:
    """Return the rate that extends a grid where the best one lies on its edge, else None.

    Args:
        rates: rising.
        best: one of them, or None.
    """
    if best is None or len(rates) < 2:
        return None
    if isclose(best, rates[-1]):
        return round_rate(rates[-1] ** 2 / rates[-2])
    if isclose(best, rates[0]):
        return round_rate(rates[0] ** 2 / rates[1])
    return None


def with_rate(request: RunRequest, rate: float) -> RunRequest:
    """Return a request with another learning rate."""
    return replace(request, overrides=(*request.overrides, f"train.lr={rate}"))


def _score(record: Record) -> float:
    return record.metrics.val[record.metrics.primary]


def _cancelled(record: Record | None) -> bool:
    return record is not None and record.status == "cancelled"
