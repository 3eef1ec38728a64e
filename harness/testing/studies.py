"""Studies made by hand with their Records, for tests of views."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from harness.record import Record, content_hash
from harness.study import Axis, Cell, Study
from harness.testing.records import MIB, make_record

Point = dict[str, Any]


def every_point(axes: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return every combination of the axes' values."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def make_study(
    axes: Mapping[str, Sequence[Any]],
    score: Callable[[Point, int], float],
    *,
    points: Iterable[Point] | None = None,
    seeds: Sequence[int] = (0,),
    peak_bytes: Callable[[Point], int] | None = None,
    validation: Callable[[Point, int], float] | None = None,
    **changes: Any,
) -> tuple[Study, list[Record]]:
    """Return a study whose runs all ended, and their Records.

    Args:
        axes: values by field.
        score: of a point and a seed on the test split, a fraction.
        points: those that were run; by default every combination.
        seeds: of each point.
        peak_bytes: of a training step; by default 24 MiB everywhere.
        validation: likewise on the validation split; by default the test score.
        **changes: fields of :class:`Study` to replace.
    """
    cells, records = [], []
    for point in every_point(axes) if points is None else points:
        for seed in seeds:
            scores = (score(point, seed), (validation or score)(point, seed))
            peak = peak_bytes(point) if peak_bytes else 24 * MIB
            record = _record(point, seed, *scores, peak)
            records.append(record)
            cells.append(Cell(point=point, seed=seed, status="done", run_key=record.run_key))
    fields = {
        "name": "bits",
        "method": "mp_ismoe",
        "task": "vqa",
        "dataset": "easy-vqa",
        "recipe": "default",
        "backbone": "scenes_vl",
        "axes": [Axis(field=field, values=tuple(values)) for field, values in axes.items()],
        "sampler": "grid",
        "cells": cells,
    }
    return Study.model_validate(fields | changes), records


def _record(point: Point, seed: int, test: float, validation: float, peak: int) -> Record:
    record = make_record(seed=seed, score=test)
    primary = record.metrics.primary
    assert record.memory is not None
    return record.model_copy(
        update={
            "run_key": content_hash({"point": point, "seed": seed}),
            "metrics": record.metrics.model_copy(update={"val": {primary: validation}}),
            "memory": record.memory.model_copy(update={"train_peak_bytes": peak}),
        }
    )
