"""The mean of a method's scores over all tasks of a group, as GLUE defines its own.

Source: Wang et al., GLUE, ICLR 2019, section 3: the score of a task with several metrics is their
mean, and the average is that of the tasks' scores, every task alike.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from reports.comparison import Row, spread
from reports.fairness import FairnessGroup, Property


@dataclass(frozen=True)
class Average:
    """One method's mean over the tasks of a group; scores are fractions.

    Attributes:
        group: its name.
        row: of the group's first task, for the method's names.
        tasks: how many the group has.
        seeds: those for which every task was run.
        mean: over tasks and these seeds.
        deviation: of the seeds' averages (n - 1); None for one seed.
        interval: a 95 % t-interval of the mean; None for one seed.
        setup: what the runs were given, by name; a list of what each task's were where it varies.
    """

    group: str
    row: Row
    tasks: int
    seeds: tuple[int, ...]
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None
    setup: FairnessGroup


def averages(rows: Sequence[Row], groups: Mapping[str, Sequence[str]]) -> list[Average]:
    """Return the averages of methods that have a score on every task of a group.

    Those whose runs were given the same stand together, best first.
    Groups whose tasks are scored by different metrics have none, and neither has a method with two
    datasets or settings of one task: which of them would count is for nobody to guess.

    Args:
        rows: of a comparison.
        groups: names of tasks by the group's name.
    """
    found: list[Average] = []
    for group, tasks in groups.items():
        of_method: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            if row.record.task in tasks:
                of_method.setdefault(_method(row), []).append(row)
        complete = [own for own in of_method.values() if _is_complete(own, tasks)]
        averaged = [average for own in complete if (average := _average(group, own)) is not None]
        found += sorted(averaged, key=_rank)
    return found


def _method(row: Row) -> tuple[str, ...]:
    record = row.record
    return (record.method, str(record.preset), record.recipe, record.backbone)


def _is_complete(rows: Sequence[Row], tasks: Sequence[str]) -> bool:
    records = [row.record for row in rows]
    one_each = sorted(record.task for record in records) == sorted(tasks)
    return len(tasks) > 1 and one_each and len({r.metrics.primary for r in records}) == 1


def _average(group: str, rows: Sequence[Row]) -> Average | None:
    seeds = sorted(set.intersection(*(set(row.seeds) for row in rows)))
    if not seeds:
        return None
    of_seed = [fmean(row.scores[row.seeds.index(seed)] for row in rows) for seed in seeds]
    deviation, interval = spread(of_seed)
    return Average(
        group=group,
        row=rows[0],
        tasks=len(rows),
        seeds=tuple(seeds),
        mean=fmean(of_seed),
        deviation=deviation,
        interval=interval,
        setup=_setup(sorted(rows, key=lambda row: row.record.task)),
    )


def _setup(rows: Sequence[Row]) -> dict[str, Property]:
    """Return the properties of several tasks' rows: one value where all have it, else all."""
    merged: dict[str, Property] = {}
    for name in dict.fromkeys(name for row in rows for name in row.group):
        values = [row.group.get(name) for row in rows]
        merged[name] = values[0] if all(v == values[0] for v in values) else list(values)
    return merged


def _rank(average: Average) -> tuple[str, float]:
    return (json.dumps(average.setup, sort_keys=True), -average.mean)
