"""Stored features: a study whose axes do not touch the backbone, with them and without."""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.clock import seconds
from harness.config import RunRequest, resolve
from harness.errors import RunError
from harness.run_options import RunOptions
from harness.runner import run

AXES = {
    "method.experts": (2, 4, 8),
    "method.top_k": (1, 2),
    "train.lr": (1e-3, 3e-3),
}
COMPUTED_EVERY = 4
"""Without the store every fourth trial is run, one for each number of experts, and counts for four:
the backbone takes most of it."""
FIXED = ("memory.profile=false",)
REQUEST = RunRequest(
    method="mp_ismoe@ismoe",
    task="scenes_entailment",
    recipe="quick",
    backbone="minilm",
    weights="random",
    device="cpu",
    limit=1000,
)


def measure() -> dict[str, Any]:
    """Run the study with the store and part of it without, and compare the scores too."""
    trials = list(itertools.product(*AXES.values()))
    part = trials[::COMPUTED_EVERY]
    stored, scores = _study(trials, enabled=True)
    computed, others = _study(part, enabled=False)
    computed *= len(trials) / len(part)
    return {
        "trials": len(trials),
        "trials_computed": len(part),
        "stored_seconds": stored,
        "computed_seconds": computed,
        "speedup": computed / stored,
        "same_scores": scores[::COMPUTED_EVERY] == others,
    }


def _study(
    trials: Sequence[tuple[Any, ...]], *, enabled: bool
) -> tuple[float, list[dict[str, float]]]:
    """Return the seconds and the test scores of trials, in an empty folder."""
    scores: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(Path(folder), "off", -1)
        taken = seconds(lambda: scores.extend(_scores(trials, enabled, options)))
    return taken, scores


def _scores(
    trials: Sequence[tuple[Any, ...]], enabled: bool, options: RunOptions
) -> Iterator[dict[str, float]]:
    for values in trials:
        axes = [f"{name}={value}" for name, value in zip(AXES, values, strict=True)]
        settings = (*FIXED, f"features.enabled={str(enabled).lower()}", *axes)
        record = run(resolve(replace(REQUEST, overrides=settings)), options)
        if record.status != "done":
            raise RunError(record.status, f"{', '.join(axes)}: {record.error}")
        yield dict(record.metrics.test)


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the speed-up."""
    same = "the same" if figures["same_scores"] else "different"
    yield (
        f"{figures['trials']} trials of {REQUEST.method} on {REQUEST.backbone}: "
        f"{figures['stored_seconds']:.1f} s with stored features, "
        f"{figures['computed_seconds']:.1f} s without, by {figures['trials_computed']} of them "
        f"({figures['speedup']:.2f} times as long); {same} scores"
    )
