"""Runs that the paper's statements compare, and what is said of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cards import METHODS
from harness.record import Metrics, Record, content_hash
from harness.testing.records import make_provenance, make_record
from reports.reproduce.contrasts import Part
from reports.reproduce.hypotheses import H1
from reports.reproduce.pairing import find_units
from reports.reproduce.verdicts import ClaimVerdict, decide_all

TASKS_USED = ("vqa", "gqa", "grounding")
SEEDS = range(5)


def run(
    method: str = "unipt",
    task: str = "vqa",
    seed: int = 0,
    score: float = 0.5,
    **changes: Any,
) -> Record:
    """Return a run with a method's whole configuration; ``set`` holds dotted settings."""
    wanted = changes.pop("set", {})
    card = METHODS.card(method)
    own = {k.removeprefix("method.config."): v for k, v in wanted.items() if k.startswith("method")}
    config = {
        "method": {"name": method, "config": card.config(**own).model_dump(mode="json")},
        "task": {"name": task, "config": {"train_rows": None}},
        "train": {"epochs": 4, "batch_size": 128, "eval_batch_size": 256, "amp": "bf16"},
        "backbone": {"name": "scenes_vl", "quantize": {"quantize": "none"}},
        "device": "cpu",
    }
    for name, value in wanted.items():
        section, *rest = name.split(".")
        if section != "method":
            config[section] = config[section] | {rest[-1]: value}
    fields = {
        "task": task,
        "dataset": f"scenes-{task}",
        "config": config,
        "metrics": Metrics(primary="accuracy", direction="max", test={"accuracy": score}),
        "provenance": make_provenance("bundled"),
    }
    record = make_record(method, seed, score, **fields | changes)
    key = content_hash({"record": json.loads(record.to_json())})
    return record.model_copy(update={"run_key": key})


def pairs(
    gain: float = 0.02,
    *,
    tasks: Sequence[str] = TASKS_USED,
    seeds: Sequence[int] = SEEDS,
    ours: dict[str, Any] | None = None,
    rival: str = "unipt",
) -> list[Record]:
    """Return MP-ISMoE and a rival on tasks and seeds, with a gain that varies a little."""
    records = []
    for place, task in enumerate(tasks):
        for seed in seeds:
            base = 0.5 + place / 10 + seed / 1000
            records.append(run(rival, task, seed, base))
            own = base + gain + (seed - 2) / 2000
            records.append(run("mp_ismoe", task, seed, own, **(ours or {})))
    return records


def verdict(claim: str, records: Sequence[Record], output: Path | None = None) -> ClaimVerdict:
    [found] = [own for own in decide_all(records, output=output) if own.claim.id == claim]
    return found


def units(records: Sequence[Record], part: Part = H1.parts[0]) -> int:
    return len(find_units(list(records), part).units)
