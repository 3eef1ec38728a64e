"""One training step and one inference of any method, observed under the tracker."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from harness.memory.allocator import AllocationLog, CudaPeaks, record_allocations
from harness.memory.categories import TRAIN_PHASES
from harness.memory.events import Replay, replay, without
from harness.memory.report import MemoryReport
from harness.memory.tracker import MemoryTracker, storages_in

MEASURED_STEPS = 3
"""Of real ones, after one that warms up; fake tensors give the same figure every time."""

Phase = Callable[[str], AbstractContextManager[None]]
Source = Literal["predicted", "allocator"]


@dataclass(frozen=True)
class StepProgram:
    """What one training step and one inference are, whatever the method and task.

    Attributes:
        model: everything with parameters, head included.
        regions: region (``backbone``, ``side``, ``head``) -> its root module within the model.
        make_batch: returns one batch on the model's device, the largest that training will see; a
            nest of mappings, sequences, dataclasses and tensors.
        output: returns what a user of the trained model wants, of (model, batch).
        loss: returns the scalar loss of (model, output, batch).
        make_optimizer: returns a new optimizer for a model of this kind.
        precision: returns the context of output and loss, such as autocast.
        clip_norm: bound of the gradient's norm, None for no clipping.
        accumulation_steps: forward and backward passes before each optimizer step.
    """

    model: nn.Module
    regions: Mapping[str, nn.Module]
    make_batch: Callable[[], Any]
    output: Callable[[nn.Module, Any], Any]
    loss: Callable[[nn.Module, Any, Any], torch.Tensor]
    make_optimizer: Callable[[nn.Module], Optimizer]
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    clip_norm: float | None = None
    accumulation_steps: int = 1

    def forward(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch."""
        with self.precision():
            return self.loss(self.model, self.output(self.model, batch), batch)

    def inference(self, batch: Any) -> Any:
        """Return the output of a batch."""
        with self.precision():
            return self.output(self.model, batch)


@dataclass(frozen=True)
class Reading:
    """The memory of one observed call; sizes in bytes.

    Attributes:
        replay: peak, categories and timeline, by the allocator where it was recorded.
        traced_peak_bytes: the peak as tensors alone account for it.
        start_bytes: the tracked total before the call; ``end_bytes`` after it.
        cuda_bytes: phase -> requested, allocated and reserved peaks; empty on CPU.
    """

    replay: Replay
    traced_peak_bytes: int
    start_bytes: int
    end_bytes: int
    cuda_bytes: dict[str, dict[str, int]]


Readings = tuple[list[Reading], Reading, Reading]
"""Of training steps, of an evaluation between epochs, and of an inference."""


def observe(
    program: StepProgram,
    call: Callable[[Phase], Any],
    *,
    device: torch.device,
    allocator: bool,
    optimizer: Optimizer | None = None,
    inputs: Any = (),
) -> Reading:
    """Run ``call`` once under the tracker and, if asked, beside the allocator's own log.

    Args:
        program: its model and regions are tracked.
        call: receives a function that opens a phase by name and names its phases through it.
        device: whose memory counts.
        allocator: record the allocator's blocks; False for fake tensors, which have none.
        optimizer: whose state counts as such.
        inputs: the batch.
    """
    tracker = MemoryTracker(
        program.model,
        program.regions,
        optimizer=optimizer,
        inputs=inputs,
        device=device,
        record=True,
    )
    peaks = CudaPeaks(device)
    log = AllocationLog()

    @contextmanager
    def phase(name: str) -> Any:
        with peaks.phase(name), tracker.phase(name):
            yield

    gc.collect()  # garbage of the step before would be counted until it is found, at random
    with ExitStack() as stack:
        stack.enter_context(tracker)
        if allocator:
            log = stack.enter_context(record_allocations(device))
        call(phase)
        end_bytes = tracker.total_bytes
    return Reading(
        replay(tracker.events, log.allocations),
        tracker.peak_bytes,
        tracker.start_bytes,
        end_bytes,
        peaks.phase_peak_bytes,
    )


def train_step(program: StepProgram, optimizer: Optimizer, batch: Any, phase: Phase) -> None:
    """Run one optimizer step; gradients are dropped at its end, as training does."""
    for _ in range(program.accumulation_steps):
        with phase("forward"):
            loss = program.forward(batch)
        with phase("backward"):
            loss.backward()
            del loss
    with phase("optimizer"):
        if program.clip_norm is not None:
            trainable = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(trainable, program.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def run_protocol(
    program: StepProgram,
    *,
    device: torch.device,
    source: Source,
    predicted_train_peak_bytes: int | None = None,
) -> MemoryReport:
    """Observe training, evaluation and inference of a program, in this order.

    Of real steps, the first is discarded, for it makes the optimizer's state and fills caches; the
    next ones are measured and the heaviest is reported. Evaluation runs as it does between epochs,
    with the optimizer's state alive, and inference as in use, without it. The model is left trained
    by these steps and in evaluation mode.
    """
    with _quick_collection():
        return _observed_protocol(program, device, source, predicted_train_peak_bytes)


def _observed_protocol(
    program: StepProgram,
    device: torch.device,
    source: Source,
    predicted_train_peak_bytes: int | None,
) -> MemoryReport:
    batch = program.make_batch()
    load_bytes = _loaded_bytes(program, device)
    look = _looking(program, batch, device, source)
    observed = _predicted if source == "predicted" else _measured
    steps, evaluation, inference = observed(program, batch, look)
    return _report(
        steps, evaluation, inference, load_bytes, device, source, predicted_train_peak_bytes
    )


def train_peak_bytes(program: StepProgram, *, device: torch.device) -> int:
    """Return the peak of the protocol's training step on fake tensors, and observe no more."""
    with _quick_collection():
        batch = program.make_batch()
        look = _looking(program, batch, device, "predicted")
        return _predicted_step(program, batch, look)[0].replay.peak_bytes


def _looking(
    program: StepProgram, batch: Any, device: torch.device, source: Source
) -> Callable[..., Reading]:
    return partial(observe, program, device=device, allocator=source == "allocator", inputs=batch)


def _measured(program: StepProgram, batch: Any, look: Callable[..., Reading]) -> Readings:
    """Take a step that warms up, and return the readings of the steps and passes after it."""
    program.model.train()
    optimizer = program.make_optimizer(program.model)
    train_step(program, optimizer, batch, _unobserved)
    step = partial(train_step, program, optimizer, batch)
    steps = [look(step, optimizer=optimizer) for _ in range(MEASURED_STEPS)]
    program.model.eval()
    with torch.no_grad():
        evaluation = look(_one_phase("eval", partial(program.forward, batch)), optimizer=optimizer)
        del optimizer, step
        return steps, evaluation, look(_one_phase("inference", partial(program.inference, batch)))


def _predicted(program: StepProgram, batch: Any, look: Callable[..., Reading]) -> Readings:
    """Return the readings of fake tensors, which are the same at every step.

    An evaluation begins as an inference does, but with the optimizer's state: one pass tells both.
    """
    step, optimizer = _predicted_step(program, batch, look)

    def evaluate(phase: Phase) -> None:
        with program.precision():
            with phase("inference"):
                output = program.output(program.model, batch)
            with phase("eval"):
                program.loss(program.model, output, batch)

    program.model.eval()
    with torch.no_grad():
        evaluation = look(evaluate, optimizer=optimizer)
    state_bytes = sum(storages_in(list(optimizer.state.values())).values())
    peak_bytes = evaluation.replay.phase_peak_bytes["inference"] - state_bytes
    return [step], evaluation, replace(evaluation, replay=Replay(peak_bytes=peak_bytes))


def _predicted_step(
    program: StepProgram, batch: Any, look: Callable[..., Reading]
) -> tuple[Reading, Optimizer]:
    """Return the reading of one step on fake tensors, and the optimizer with its state.

    There is no step before it: the state is made from gradients of zeros, and taken off the
    reading where a parameter turns out to get no gradient. Of accumulated passes two are taken:
    from the second on, all find gradients of those before.
    """
    program = replace(program, accumulation_steps=min(2, program.accumulation_steps))
    program.model.train()
    trained = [p for p in program.model.parameters() if p.requires_grad]
    optimizer = program.make_optimizer(program.model)
    _make_state(optimizer, trained)
    reached: set[nn.Parameter] = set()
    hooks = [p.register_post_accumulate_grad_hook(reached.add) for p in trained]  # type: ignore[arg-type]
    reading = look(partial(train_step, program, optimizer, batch), optimizer=optimizer)
    for hook in hooks:
        hook.remove()
    unreached = [optimizer.state.pop(p, {}) for p in trained if p not in reached]
    nbytes = sum(storages_in(unreached).values())
    steady = replace(
        reading,
        replay=without(reading.replay, "optimizer_state", nbytes),
        traced_peak_bytes=reading.traced_peak_bytes - nbytes,
        start_bytes=reading.start_bytes - nbytes,
        end_bytes=reading.end_bytes - nbytes,
    )
    return steady, optimizer


def _make_state(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Make the state that an optimizer's step makes for parameters with a gradient."""
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _report(
    steps: Sequence[Reading],
    evaluation: Reading,
    inference: Reading,
    load_bytes: int,
    device: torch.device,
    source: Source,
    predicted_train_peak_bytes: int | None,
) -> MemoryReport:
    heaviest = max(steps, key=lambda step: step.replay.peak_bytes)
    phase_peak_bytes = {"load": load_bytes}
    phase_peak_bytes |= {
        name: max(step.replay.phase_peak_bytes[name] for step in steps) for name in TRAIN_PHASES
    }
    phase_peak_bytes["eval"] = evaluation.replay.peak_bytes
    phase_peak_bytes["inference"] = inference.replay.peak_bytes
    return MemoryReport(
        source=source,
        device=str(device),
        train_peak_bytes=heaviest.replay.peak_bytes,
        inference_peak_bytes=inference.replay.peak_bytes,
        predicted_train_peak_bytes=predicted_train_peak_bytes,
        phase_peak_bytes=phase_peak_bytes,
        at_peak_bytes=heaviest.replay.at_peak_bytes,
        traced_train_peak_bytes=max(step.traced_peak_bytes for step in steps),
        steps_peak_bytes=tuple(step.replay.peak_bytes for step in steps),
        timeline=tuple(heaviest.replay.timeline),
        allocator_bytes=heaviest.cuda_bytes | evaluation.cuda_bytes | inference.cuda_bytes,
    )


def _loaded_bytes(program: StepProgram, device: torch.device) -> int:
    with MemoryTracker(program.model, program.regions, device=device) as tracker:
        return tracker.start_bytes


def _one_phase(name: str, call: Callable[[], Any]) -> Callable[[Phase], None]:
    def run(phase: Phase) -> None:
        with phase(name):
            call()

    return run


@contextmanager
def old_objects_aside() -> Iterator[None]:
    """Let the collector look at new objects only: libraries made many old ones, and they stay."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _quick_collection() -> Iterator[None]:
    """Collect what is dead, so that only what lives on is put aside."""
    gc.collect()
    with old_objects_aside():
        yield


@contextmanager
def _unobserved(_name: str) -> Any:
    yield
