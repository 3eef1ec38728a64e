"""What is known of a run, from its first moment to its end, and the Record made of it."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from harness.cards import BACKBONES, METHODS, TASKS
from harness.config import RunConfig
from harness.context import Context
from harness.features import FeatureStore
from harness.hub import pinned_data
from harness.loop import Trainer
from harness.memory.report import MemoryReport
from harness.model import Built
from harness.profile import memory_record
from harness.provenance import commit, device_name, packages
from harness.record import (
    Artifact,
    DataOrigin,
    FeatureUse,
    Metrics,
    Provenance,
    Quality,
    Record,
    Status,
    Time,
    content_hash,
)
from harness.registry import Choice
from tasks.base import TaskData


@dataclass
class Outcome:
    """What is known of a run so far; a Record can be made of it at any time."""

    config: RunConfig
    run_key: str
    provenance: Provenance
    started: float
    built: Built | None = None
    trainer: Trainer | None = None
    context: Context | None = None
    features: FeatureStore | None = None
    feature_reason: str | None = None
    report: MemoryReport | None = None
    baselines: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    latency_ms: float = 0.0
    forgetting: float | None = None
    test_seconds: float = 0.0
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    earlier_host_bytes: dict[str, int] = field(default_factory=dict)
    earlier_seconds: float = 0.0
    earlier_feature_seconds: float = 0.0

    def record(self, status: Status, error: str | None = None) -> Record:
        """Return the Record of the run as it stands."""
        config = self.config
        card = TASKS.card(config.task.name)
        method = Choice(METHODS.card(config.method.name), config.method.preset)
        state = self.trainer.state if self.trainer else None
        best = [e for e in state.history if e.epoch == state.best_epoch] if state else []
        metrics = Metrics(
            primary=card.primary,
            direction=card.metrics[card.primary],
            val=best[0].val if best else {},
            test=self.test,
            baselines=self.baselines,
        )
        return Record(
            schema=1,
            run_key=self.run_key,
            status=status,
            error=error,
            method=method.alias or config.method.name,
            preset=None if method.alias else config.method.preset,
            task=config.task.name,
            dataset=config.task.dataset,
            recipe=config.task.recipe,
            backbone=Choice(BACKBONES.card(config.backbone.name), config.backbone.preset).label,
            seed=config.seed,
            config=config.resolved(),
            metrics=metrics,
            history=state.history if state else [],
            params=self.built.params() if self.built else None,
            memory=self._memory(),
            time=self._time(),
            quality=self._quality(),
            artifacts=self.artifacts,
            provenance=self.provenance,
        )

    def host_bytes(self) -> dict[str, int]:
        """Return the peak bytes outside the model, those before a checkpoint included."""
        assert self.built is not None
        now = self.built.model.host_bytes()
        if self.features:
            now["features"] = self.features.bytes
        return {
            name: max(now.get(name, 0), self.earlier_host_bytes.get(name, 0))
            for name in {**self.earlier_host_bytes, **now}
        }

    def _quality(self) -> Quality:
        figures = self.built.model.quality() if self.built else {}
        return Quality(forgetting=self.forgetting, **figures)

    def _memory(self) -> Any:
        if not (self.report and self.built and self.context):
            return None
        return memory_record(
            self.report, self.provenance.device, self.context.phase_peak_bytes, self.host_bytes()
        )

    def seconds(self) -> float:
        """Return the time that the run has taken, before its checkpoint and since it began."""
        return self.earlier_seconds + time.perf_counter() - self.started

    def feature_seconds(self) -> float:
        """Return the time that filling the store has taken, before a checkpoint included."""
        return self.earlier_feature_seconds + (self.features.seconds if self.features else 0.0)

    def _time(self) -> Time | None:
        if not self.trainer:
            return None
        state, config = self.trainer.state, self.config.train
        steps = state.step_seconds or [0.0]
        median = float(np.median(steps))
        rows = state.step * self.trainer.order.rows_of_a_step
        use = FeatureUse(
            used=self.features is not None,
            seconds=self.feature_seconds(),
            bytes=self.host_bytes()["features"] if self.features else 0,
            reason=self.feature_reason,
        )
        return Time(
            train_seconds=state.train_seconds,
            steps=state.step,
            step_seconds_median=median,
            step_seconds_p95=float(np.quantile(steps, 0.95)),
            examples_per_second=rows / state.train_seconds if state.train_seconds else 0.0,
            eval_seconds=state.eval_seconds + self.test_seconds,
            inference_ms_per_example=self.latency_ms,
            total_seconds=self.seconds(),
            features=use,
            compile_seconds=sum(steps) - len(steps) * median if config.compile else None,
        )


def run_key(config: RunConfig, data: TaskData, built: Built, device: torch.device) -> str:
    """Return the sha256 of everything that determines the outcome."""
    resolved = config.resolved()
    del resolved["device"], resolved["task"]["data_dir"], resolved["features"]["max_bytes"]
    return content_hash(
        {
            "config": resolved,
            "data": data.provenance.fingerprint,
            "weights": built.weights_hash,
            "low_bit": built.model.method.backbone.low_bit.state_hash(),
            "device": device.type,
        }
    )


def provenance(config: RunConfig, data: TaskData, built: Built, device: torch.device) -> Provenance:
    """Return where this run comes from."""
    head, dirty = commit()
    origin, pinned = data.provenance, pinned_data(config.task.data_dir)
    return Provenance(
        commit=head,
        dirty=dirty,
        packages=packages(),
        device=device_name(device),
        threads=config.train.threads,
        data=DataOrigin(
            name=origin.name,
            source=origin.source if pinned is None else "hub",
            revision=origin.revision if pinned is None else str(pinned),
            licence=origin.licence,
            rows=dict(origin.rows),
            fingerprint=origin.fingerprint,
        ),
        weights=built.weights_hash,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        limited=config.limit is not None,
    )
