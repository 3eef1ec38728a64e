"""Records made by hand, for tests of views."""

from typing import Any

from harness.record import (
    DataOrigin,
    Epoch,
    FeatureUse,
    Memory,
    Metrics,
    Params,
    Provenance,
    Record,
    Time,
    content_hash,
)

MIB = 2**20


def make_record(
    method: str = "mp_ismoe", seed: int = 0, score: float = 0.92, **changes: Any
) -> Record:
    """Return a complete record of a run that never was.

    Args:
        method: the method's name.
        seed: the run's seed.
        score: the primary metric on the test split, a fraction.
        changes: fields of :class:`Record` to replace.
    """
    config = {
        "method": {"name": method, "preset": None, "revision": 1, "config": {"bits": 8}},
        "task": {"name": "vqa", "dataset": "easy-vqa", "recipe": "default"},
        "backbone": {"name": "scenes_vl", "weights": None},
        "train": {"epochs": 4, "batch_size": 128, "lr": 1e-3},
        "seed": seed,
        "device": "cpu",
        "limit": None,
    }
    fields: dict[str, Any] = {
        "run_key": content_hash({"config": config, "score": score}),
        "status": "done",
        "method": method,
        "preset": None,
        "task": "vqa",
        "dataset": "easy-vqa",
        "recipe": "default",
        "backbone": "scenes_vl",
        "seed": seed,
        "config": config,
        "metrics": _metrics(score),
        "history": _history(score),
        "params": Params(
            trainable=183_424,
            total=2_415_872,
            percent=100 * 183_424 / 2_415_872,
            denominator=2_415_872,
            parts={"side": 120_000, "experts": 61_741, "head": 1_683},
        ),
        "memory": make_memory(),
        "time": _time(),
        "provenance": make_provenance(),
    }
    return Record.model_validate(fields | changes)


def make_memory(scale: int = 1) -> Memory:
    """Return a memory report whose categories sum to its peak; sizes grow with ``scale``."""
    at_peak = {
        "quantized_weights": 2 * MIB,
        "quantization_metadata": MIB // 8,
        "trainable_weights": MIB,
        "saved_side": 14 * MIB * scale,
        "saved_head": MIB // 2 * scale,
        "gradients": MIB,
        "optimizer_state": 2 * MIB,
        "inputs": MIB * scale,
        "temporaries": 3 * MIB * scale,
    }
    peak = sum(at_peak.values())
    return Memory(
        source="allocator",
        device="cpu",
        train_peak_bytes=peak,
        inference_peak_bytes=9 * MIB * scale,
        predicted_train_peak_bytes=peak,
        phase_peak_bytes={"forward": peak - 2 * MIB, "backward": peak, "optimizer": 8 * MIB},
        at_peak_bytes=at_peak,
    )


def make_provenance(source: str = "package", limited: bool = False) -> Provenance:
    """Return where a record might have come from."""
    data = DataOrigin(
        name="easy-vqa",
        source=source,
        revision="1.0",
        licence="MIT",
        rows={"train": 34_000, "val": 4_575, "test": 9_673},
        fingerprint="0" * 64,
    )
    return Provenance(
        commit="0123456789abcdef",
        dirty=False,
        packages={"torch": "2.11.0"},
        device="some processor",
        threads=2,
        data=data,
        weights="1" * 64,
        started_at="2026-01-01T12:00:00+00:00",
        limited=limited,
    )


def make_timeline(memory: Memory) -> list[dict[str, Any]]:
    """Return the timeline of one step that climbs to ``memory``'s peak and falls back."""
    phases = ["forward"] * 40 + ["backward"] * 40 + ["optimizer"] * 10
    resident = {"quantized_weights", "quantization_metadata", "trainable_weights"}
    resident.add("optimizer_state")
    timeline = []
    for event, phase in enumerate(phases):
        rise = max(0.0, 1 - abs(event - 45) / 45)
        sizes = {
            name: nbytes if name in resident else int(nbytes * rise)
            for name, nbytes in memory.at_peak_bytes.items()
        }
        timeline.append({"event": event, "phase": phase, "bytes": sizes})
    return timeline


def _metrics(score: float) -> Metrics:
    return Metrics(
        primary="vqa_accuracy",
        direction="max",
        val={"vqa_accuracy": score + 0.004, "accuracy": score + 0.004},
        test={
            "vqa_accuracy": score,
            "accuracy": score,
            "accuracy/shape": score - 0.02,
            "accuracy/colour": score + 0.01,
        },
        baselines={"majority": 0.373, "question_only": 0.67},
    )


def _history(score: float) -> list[Epoch]:
    return [
        Epoch(
            epoch=number,
            step=266 * number,
            loss=1.4 / number,
            val={"vqa_accuracy": score + 0.004 - 0.08 * (4 - number) / number},
            lr=1e-3 * (1 - number / 4),
            seconds=12.5,
            router_entropy=1.2,
        )
        for number in (1, 2, 3, 4)
    ]


def _time() -> Time:
    return Time(
        train_seconds=50.0,
        steps=1064,
        step_seconds_median=0.04,
        step_seconds_p95=0.05,
        examples_per_second=2700.0,
        eval_seconds=6.0,
        inference_ms_per_example=0.4,
        total_seconds=75.0,
        features=FeatureUse(used=True, seconds=12.0, bytes=310 * MIB),
    )
