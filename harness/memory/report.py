"""The result of a measurement. Imports no torch, so that views can read it."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from harness.memory.events import TimelinePoint


@dataclass(frozen=True)
class MemoryReport:
    """Peak memory of one training step and of inference; every size in bytes.

    Attributes:
        source: ``predicted`` (fake tensors), ``traced`` or ``allocator`` (a real step).
        device: ``cpu`` or ``cuda:0`` and the like.
        train_peak_bytes: highest total over forward, backward and optimizer, in the heaviest of the
            measured steps; with an allocator it includes kernel workspace.
        inference_peak_bytes: highest total of inference, without optimizer state.
        predicted_train_peak_bytes: the prediction for the same step, None where none was made.
        phase_peak_bytes: phase -> highest total in it. ``load`` is what the loaded model holds;
            ``eval`` runs beside the optimizer's state, ``inference`` without it.
        at_peak_bytes: category -> bytes at the training peak; they sum to ``train_peak_bytes``.
        traced_train_peak_bytes: the training peak as tensors alone account for it.
        steps_peak_bytes: the peak of each measured step.
        timeline: live bytes by category through the heaviest step.
        allocator_bytes: on CUDA, phase -> requested, allocated and reserved peaks.
    """

    source: Literal["predicted", "traced", "allocator"]
    device: str
    train_peak_bytes: int
    inference_peak_bytes: int
    predicted_train_peak_bytes: int | None
    phase_peak_bytes: dict[str, int]
    at_peak_bytes: dict[str, int]
    traced_train_peak_bytes: int
    steps_peak_bytes: tuple[int, ...]
    timeline: tuple[TimelinePoint, ...]
    allocator_bytes: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def spread_bytes(self) -> int:
        """Highest minus lowest peak of the measured steps: 0 where memory is repeatable."""
        return max(self.steps_peak_bytes) - min(self.steps_peak_bytes)

    @property
    def residual_bytes(self) -> int:
        """The training peak minus what tensors account for at their own peak."""
        return self.train_peak_bytes - self.traced_train_peak_bytes

    def timeline_json(self) -> list[dict[str, Any]]:
        """Return the timeline as plain lists and dictionaries for a JSON file."""
        return [asdict(point) for point in self.timeline]
