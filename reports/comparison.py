"""Runs that differ in nothing but the seed, as one row each, ranked among what is comparable."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from harness.record import Record, content_hash
from reports.fairness import FairnessGroup, differing, fairness_group
from reports.predictions import example_scores
from reports.statistics import CONFIDENCE, Difference, Sample, differences_to_first
from reports.variants import identity, variant_names


@dataclass(frozen=True)
class Row:
    """What several seeds of one configuration gave; scores are fractions.

    Attributes:
        runs: one a seed, by rising seed.
        variant: the settings in which this row differs from rows with the same names.
        seeds: in rising order.
        scores: the primary metric on the test split, by seed.
        mean: their mean.
        deviation: their standard deviation (n - 1); None for one seed.
        interval: a 95 % t-interval of the mean; None for one seed.
        baselines: the blind predictors' scores.
        peak_bytes: highest training peak over the seeds; None where it was not measured.
        peak_ratio: ``peak_bytes`` over that of ``full`` at the same task, data, recipe, backbone,
            settings of both, device, precision and batch size; None where there is no such run, or
            several.
        trainable_percent: 100 * trainable / denominator.
        train_seconds: mean over the seeds.
        bundled: whether the data come with the package.
        group: what the runs were given, which must be equal for a fair ranking, by name.
        difference: to the best row that this one is ranked with; None for that row itself.
        best: whether every row that it is ranked with is worse, as a corrected test shows.
    """

    runs: tuple[Record, ...]
    variant: str
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None
    baselines: Mapping[str, float]
    peak_bytes: int | None
    peak_ratio: float | None
    trainable_percent: float | None
    train_seconds: float | None
    bundled: bool
    group: FairnessGroup
    difference: Difference | None = None
    best: bool = False

    @property
    def record(self) -> Record:
        """The run with the lowest seed, for the names."""
        return self.runs[0]


@dataclass(frozen=True)
class Comparison:
    """Rows that are ranked together, and what was left out.

    Attributes:
        rankings: rows, best first, each of one task, dataset, recipe and backbone, and of one
            fairness group unless an unfair ranking was asked for.
        limited: records left out because ``--limit`` cut their data.
        unfinished: records left out because their status is not ``done``.
    """

    rankings: tuple[tuple[Row, ...], ...]
    limited: int
    unfinished: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, one ranking after the other."""
        return tuple(row for ranking in self.rankings for row in ranking)

    @property
    def unfair(self) -> tuple[str, ...]:
        """The properties in which rows differ that are ranked together all the same."""
        names = (differing([row.group for row in ranking]) for ranking in self.rankings)
        return tuple(dict.fromkeys(name for found in names for name in found))


def compare(
    records: Iterable[Record], *, output: Path | None = None, allow_unfair: bool = False
) -> Comparison:
    """Group finished, unlimited records by everything but the seed, and rank what is comparable.

    Args:
        records: in any order; the outcome is the same.
        output: the folder that the runs' predictions lie in; None compares the scores alone.
        allow_unfair: rank runs together that were not given the same.

    Raises:
        UserError: predictions are not those that a run wrote.
    """
    known = list(records)
    limited = sum(record.provenance.limited for record in known)
    found = rankings(known, allow_unfair=allow_unfair)
    ranked = sum(len(row.runs) for rows in found for row in rows)
    tested = tuple(_tested(rows, output) for rows in found)
    return Comparison(tested, limited, len(known) - limited - ranked)


def rankings(records: Iterable[Record], *, allow_unfair: bool = False) -> list[tuple[Row, ...]]:
    """Return the rankings of :func:`compare` without their differences, which take time to test."""
    done = [record for record in records if _may_be_ranked(record)]
    groups: dict[str, list[Record]] = {}
    for record in sorted(done, key=lambda r: (r.seed, r.run_key)):
        groups.setdefault(identity(record), []).append(record)
    variants = variant_names([group[0] for group in groups.values()])
    full_peaks = _full_peaks(list(groups.values()))
    found: dict[tuple[str, ...], list[Row]] = {}
    for group, variant in zip(groups.values(), variants, strict=True):
        row = _summarise(group, variant, full_peaks)
        found.setdefault(_ranked_with(row, allow_unfair), []).append(row)
    order = sorted(found, key=lambda key: (*key[:-1], -len(found[key]), key[-1]))
    return [tuple(sorted(found[key], key=_rank)) for key in order]


def place(row: Row) -> tuple[str, ...]:
    """Return what rows have in common that may be ranked together, fairly or not."""
    record, metrics = row.record, row.record.metrics
    names = (record.task, record.dataset, record.recipe, record.backbone)
    return (*names, metrics.primary, metrics.direction)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the t-interval of the mean of independent values, such as the scores of seeds.

    Source: Student, "The probable error of a mean", Biometrika 6, 1908.

    Args:
        values: at least two.
        confidence: the share of such intervals that hold the true mean.
    """
    quantile = float(stdtrit(len(values) - 1, 0.5 + confidence / 2))
    half = quantile * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half


def spread(values: Sequence[float]) -> tuple[float | None, tuple[float, float] | None]:
    """Return the standard deviation (n - 1) and the mean's interval; None of a single value."""
    return (stdev(values), mean_interval(values)) if len(values) > 1 else (None, None)


def is_bundled(record: Record) -> bool:
    """Return whether the data of a run come with the package."""
    return record.provenance.data.source == "bundled"


def _may_be_ranked(record: Record) -> bool:
    whole = record.status == "done" and not record.provenance.limited
    return whole and record.metrics.primary in record.metrics.test


def _setting(record: Record) -> str:
    """Return the same text for runs whose steps are of the same size but for the method."""
    config = record.config
    train, task, backbone = (config.get(name, {}) for name in ("train", "task", "backbone"))
    return content_hash(
        {
            "place": (record.task, record.dataset, record.recipe, record.backbone),
            "device": record.memory.device if record.memory else "",
            "rows": (train.get("batch_size"), train.get("grad_accum")),
            "precision": fairness_group(record)["precision"],
            "lengths": (task.get("config"), backbone.get("config")),
        }
    )


def _peak(group: Sequence[Record]) -> int | None:
    peaks = [record.memory.train_peak_bytes for record in group if record.memory]
    return max(peaks, default=None)


def _full_peaks(groups: Sequence[Sequence[Record]]) -> dict[str, int]:
    """Return the peak of full fine-tuning by setting, where exactly one group has it."""
    found: dict[str, list[int]] = {}
    for group in groups:
        peak = _peak(group)
        if group[0].method == "full" and peak is not None:
            found.setdefault(_setting(group[0]), []).append(peak)
    return {setting: peaks[0] for setting, peaks in found.items() if len(peaks) == 1}


def _summarise(group: Sequence[Record], variant: str, full_peaks: Mapping[str, int]) -> Row:
    first = group[0]
    scores = [record.metrics.test[record.metrics.primary] for record in group]
    deviation, interval = spread(scores)
    peak, full = _peak(group), full_peaks.get(_setting(first))
    times = [record.time.train_seconds for record in group if record.time]
    return Row(
        runs=tuple(group),
        variant=variant,
        seeds=tuple(record.seed for record in group),
        scores=tuple(scores),
        mean=fmean(scores),
        deviation=deviation,
        interval=interval,
        baselines=first.metrics.baselines,
        peak_bytes=peak,
        peak_ratio=peak / full if peak is not None and full else None,
        trainable_percent=first.params.percent if first.params else None,
        train_seconds=fmean(times) if times else None,
        bundled=is_bundled(first),
        group=fairness_group(first),
    )


def _ranked_with(row: Row, allow_unfair: bool) -> tuple[str, ...]:
    """Return the same texts for rows that are ranked together: their place, then their group."""
    return (*place(row), "" if allow_unfair else json.dumps(row.group, sort_keys=True))


def _tested(rows: tuple[Row, ...], output: Path | None) -> tuple[Row, ...]:
    """Return the rows of a ranking with their differences to the first of them."""
    if len(rows) == 1:
        return rows
    differences = differences_to_first([_sample(row, output) for row in rows])
    first, *others = rows
    sign = _sign(first)
    best = all(d.excludes_zero and sign * d.mean < 0 for d in differences)
    compared = (replace(row, difference=d) for row, d in zip(others, differences, strict=True))
    return (replace(first, best=best), *compared)


def _sample(row: Row, output: Path | None) -> Sample:
    """Return the scores of a row's runs, and those by example where every seed has one run."""
    if output is None or len(set(row.seeds)) < len(row.seeds):
        return Sample(row.seeds, row.scores)
    found = {record.seed: example_scores(record, output) for record in row.runs}
    return Sample(row.seeds, row.scores, {seed: e for seed, e in found.items() if e is not None})


def _sign(row: Row) -> int:
    """Return 1 where a higher score is better, else -1."""
    return 1 if row.record.metrics.direction == "max" else -1


def _rank(row: Row) -> tuple[Any, ...]:
    names = (row.record.method, str(row.record.preset), row.variant, row.record.run_key)
    return (-_sign(row) * row.mean, *names)
