"""Runs that differ in nothing but the seed, as one row each: mean, spread and interval."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from harness.flat import flatten
from harness.record import Record, content_hash

CONFIDENCE = 0.95
TITLE_FIELDS = ("method", "preset", "task", "dataset", "recipe", "backbone")


@dataclass(frozen=True)
class Row:
    """What several seeds of one configuration gave; scores are fractions.

    Attributes:
        record: the run with the lowest seed, for the names.
        variant: the settings in which this row differs from rows with the same names.
        seeds: in rising order.
        scores: the primary metric on the test split, by seed.
        mean: their mean.
        deviation: their standard deviation (n - 1); None for one seed.
        interval: a 95 % t-interval of the mean; None for one seed.
        baselines: the blind predictors' scores.
        peak_bytes: highest training peak over the seeds; None where it was not measured.
        peak_ratio: ``peak_bytes`` over that of ``full`` at the same task, data, recipe, backbone,
            device and batch size; None where there is no such run, or several.
        trainable_percent: 100 * trainable / denominator.
        train_seconds: mean over the seeds.
        bundled: whether the data come with the package.
    """

    record: Record
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


@dataclass(frozen=True)
class Comparison:
    """Rows, best first within one task, dataset, recipe and backbone, and what was left out.

    Attributes:
        rows: see :class:`Row`.
        limited: records left out because ``--limit`` cut their data.
        unfinished: records left out because their status is not ``done``.
    """

    rows: tuple[Row, ...]
    limited: int
    unfinished: int


def compare(records: Iterable[Record]) -> Comparison:
    """Group finished, unlimited records by everything but the seed, and summarise each group."""
    known = list(records)
    limited = [r for r in known if r.provenance.limited]
    whole = [r for r in known if not r.provenance.limited]
    done = [r for r in whole if r.status == "done" and r.metrics.primary in r.metrics.test]
    groups: dict[str, list[Record]] = {}
    for record in sorted(done, key=lambda r: (r.seed, r.run_key)):
        groups.setdefault(_identity(record), []).append(record)
    variants = _variants([group[0] for group in groups.values()])
    full_peaks = _full_peaks(list(groups.values()))
    rows = [
        _summarise(group, variant, full_peaks)
        for group, variant in zip(groups.values(), variants, strict=True)
    ]
    return Comparison(tuple(sorted(rows, key=_rank)), len(limited), len(whole) - len(done))


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


def settings(record: Record) -> dict[str, Any]:
    """Return the resolved configuration with dotted names, without the seed."""
    return {name: value for name, value in flatten(record.config) if name != "seed"}


def _identity(record: Record) -> str:
    """Return the same text for runs that differ in nothing but the seed."""
    origin = record.provenance
    names = {name: getattr(record, name) for name in TITLE_FIELDS}
    data = {"data": origin.data.fingerprint, "weights": origin.weights}
    return content_hash({"settings": settings(record), **names, **data})


def _variants(records: Sequence[Record]) -> list[str]:
    """Name, for records with the same title, the settings in which they differ."""
    titles: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in records:
        titles.setdefault(_title(record), []).append(settings(record))
    variants = []
    for record in records:
        own, others = settings(record), titles[_title(record)]
        differing = [
            name
            for name in sorted({name for other in others for name in other})
            if len({json.dumps(other.get(name)) for other in others}) > 1
        ]
        variants.append(", ".join(f"{name.split('.')[-1]}={own.get(name)}" for name in differing))
    return variants


def _title(record: Record) -> tuple[str, ...]:
    return tuple(str(getattr(record, name)) for name in TITLE_FIELDS)


def _setting(record: Record) -> tuple[str, ...]:
    """Return what must be equal before two peaks may be put in a ratio."""
    batch = record.config.get("train", {}).get("batch_size")
    device = record.memory.device if record.memory else ""
    return (record.task, record.dataset, record.recipe, record.backbone, device, str(batch))


def _peak(group: Sequence[Record]) -> int | None:
    peaks = [record.memory.train_peak_bytes for record in group if record.memory]
    return max(peaks, default=None)


def _full_peaks(groups: Sequence[Sequence[Record]]) -> dict[tuple[str, ...], int]:
    """Return the peak of full fine-tuning by setting, where exactly one group has it."""
    found: dict[tuple[str, ...], list[int]] = {}
    for group in groups:
        peak = _peak(group)
        if group[0].method == "full" and peak is not None:
            found.setdefault(_setting(group[0]), []).append(peak)
    return {setting: peaks[0] for setting, peaks in found.items() if len(peaks) == 1}


def _summarise(
    group: Sequence[Record], variant: str, full_peaks: Mapping[tuple[str, ...], int]
) -> Row:
    first = group[0]
    scores = [record.metrics.test[record.metrics.primary] for record in group]
    deviation, interval = spread(scores)
    peak, full = _peak(group), full_peaks.get(_setting(first))
    times = [record.time.train_seconds for record in group if record.time]
    return Row(
        record=first,
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
    )


def _rank(row: Row) -> tuple[Any, ...]:
    record = row.record
    sign = -1 if record.metrics.direction == "max" else 1
    place = (record.task, record.dataset, record.recipe, record.backbone)
    return (*place, sign * row.mean, record.method, row.variant)
