"""The memory and latency of a built model, by the protocol that every method shares."""

import statistics

import numpy as np
import torch
from torch import Tensor, nn

from harness.clock import seconds
from harness.config import RunConfig
from harness.data import Examples
from harness.loop import training_loss
from harness.memory.measure import measure
from harness.memory.report import MemoryReport
from harness.memory.step import StepProgram
from harness.model import AdaptedModel
from harness.optimizers import make_optimizer
from harness.precision import autocast
from harness.record import Memory
from methods.base import Batch
from tasks.base import Task

LATENCY_BATCH = 32
LATENCY_REPEATS = 5


def step_program(
    config: RunConfig, task: Task, model: AdaptedModel, examples: Examples
) -> StepProgram:
    """Describe one training step of the whole model, backbone included, without stored features.

    Its texts are padded to the dataset's longest: no step needs more.
    """
    train = config.train
    rows = np.arange(min(len(examples.split("train")), train.rows_at_once))

    def loss(model: nn.Module, output: Tensor, batch: Batch) -> Tensor:
        assert isinstance(model, AdaptedModel)
        return training_loss(task, model, output, batch.targets)

    return StepProgram(
        model=model,
        regions=model.regions(),
        make_batch=lambda: examples.batch("train", rows, longest=True),
        output=lambda model, batch: model(batch.inputs),
        loss=loss,
        make_optimizer=lambda m: make_optimizer(m, train),  # type: ignore[arg-type]
        precision=lambda: autocast(examples.device, train),
        clip_norm=train.clip_norm,
        accumulation_steps=train.grad_accum,
    )


def measure_memory(
    config: RunConfig, task: Task, model: AdaptedModel, examples: Examples
) -> MemoryReport:
    """Measure the peak memory of training and inference; the model is left as it was."""
    program = step_program(config, task, model, examples)
    report = measure(program, prediction=config.memory.predict)
    model.method.statistics()  # drop what the measured steps left in them
    return report


def memory_record(
    report: MemoryReport,
    device_name: str,
    phase_peak_bytes: dict[str, int],
    host_bytes: dict[str, int],
) -> Memory:
    """Return the Record's view of a report, with the phases that ran outside the protocol."""
    return Memory(
        source=report.source,
        device=device_name,
        train_peak_bytes=report.train_peak_bytes,
        inference_peak_bytes=report.inference_peak_bytes,
        predicted_train_peak_bytes=report.predicted_train_peak_bytes,
        host_bytes=host_bytes,
        phase_peak_bytes={**report.phase_peak_bytes, **phase_peak_bytes},
        at_peak_bytes=report.at_peak_bytes,
    )


@torch.no_grad()
def inference_latency(config: RunConfig, model: AdaptedModel, examples: Examples) -> float:
    """Return milliseconds per example of the whole model, median over some batches of 32."""
    model.eval()
    rows = np.arange(min(len(examples.split("test")), LATENCY_BATCH))
    batch = examples.batch("test", rows)

    def once() -> None:
        with autocast(examples.device, config.train):
            model(batch.inputs)

    once()
    taken = [seconds(once, examples.device) for _ in range(LATENCY_REPEATS)]
    return 1000 * statistics.median(taken) / len(rows)
