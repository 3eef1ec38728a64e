"""The papers' training steps, really run on a device: their memory and their seconds."""

import contextlib
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from harness.clock import seconds
from harness.endings import first_line, is_out_of_memory
from harness.errors import UserError
from harness.memory.measure import measure
from harness.memory.snapshot import write_snapshot
from harness.memory.step import StepProgram, train_step
from harness.paper_step import StepRequest, checked_step, paper_program
from harness.provenance import commit, device_name, packages
from harness.record import content_hash, write_atomic
from reports.measured_steps import SCHEMA, load_steps

TIMED_STEPS = 5
Cell = dict[str, Any]
logger = logging.getLogger(__name__)


def measure_steps(
    request: StepRequest,
    methods: Sequence[str],
    device: torch.device,
    document: Cell,
    keep: Callable[[Cell], None],
    snapshots: Path | None = None,
) -> None:
    """Measure every method's step that a document does not hold yet, or whose snapshot is missing.

    Args:
        request: backbone, sizes and precision; its method does not count.
        methods: ``name`` or ``name@preset``.
        device: where the steps run.
        document: as ``read_document`` returns it; filled here.
        keep: called with the document after every cell.
        snapshots: folder of the CUDA allocator's history of each step; None for none.
    """
    for method in methods:
        asked = replace(request, method=method)
        snapshot = None if snapshots is None else snapshots / snapshot_name(asked)
        if not _is_known(document["cells"].get(cell_name(asked)), snapshot):
            document["cells"][cell_name(asked)] = measure_step(asked, device, snapshot)
            keep(document)


def _is_known(cell: Cell | None, snapshot: Path | None) -> bool:
    """Tell whether a cell holds what is asked for; a step that never ran has no snapshot."""
    if cell is None or snapshot is None:
        return cell is not None
    return cell["status"] != "done" or snapshot.is_file()


def measure_step(request: StepRequest, device: torch.device, snapshot: Path | None = None) -> Cell:
    """Run a step on a device and return its figures, or why there are none.

    Args:
        request: the step.
        device: where it runs.
        snapshot: file that takes the CUDA allocator's history of one more step; None for none.

    Returns:
        ``status`` (``done``, ``oom``, ``failed``, ``impossible``) and its ``reason``;
        ``peak_bytes`` of the allocator, ``traced_peak_bytes`` of tensors,
        ``predicted_peak_bytes``; bytes by phase and at the peak; on CUDA
        ``allocator_bytes``; ``step_seconds``, the median of some steps.
    """
    sizes: Cell = {}
    try:
        config, shape = checked_step(request)
        sizes = {"batch_size": shape.batch_size, "source_length": shape.source_length}
        program = paper_program(config, shape, device)
        report = measure(program)
        step = _warm_step(program)
        taken = statistics.median(seconds(step, device) for _ in range(TIMED_STEPS))
        if snapshot is not None:
            write_snapshot(step, snapshot)
            logger.info("Snapshot of %s: %s", request.method, snapshot)
    except UserError as error:
        return {**_named(request), "status": "impossible", "reason": str(error)}
    except Exception as error:  # the other methods are still to be measured
        if is_out_of_memory(error):
            return {**_named(request), **sizes, "status": "oom", "reason": first_line(error)}
        logger.warning("%s failed", request.method, exc_info=logger.isEnabledFor(logging.DEBUG))
        reason = f"{type(error).__name__}: {first_line(error)}"
        return {**_named(request), **sizes, "status": "failed", "reason": reason}
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return {
        **_named(request),
        **sizes,
        "status": "done",
        "reason": None,
        "peak_bytes": report.train_peak_bytes,
        "traced_peak_bytes": report.traced_train_peak_bytes,
        "predicted_peak_bytes": report.predicted_train_peak_bytes,
        "phase_peak_bytes": report.phase_peak_bytes,
        "at_peak_bytes": report.at_peak_bytes,
        "allocator_bytes": report.allocator_bytes,
        "step_seconds": taken,
    }


def _named(request: StepRequest) -> Cell:
    return {"method": request.method, "backbone": request.backbone, "amp": request.amp or "off"}


def cell_name(request: StepRequest) -> str:
    """Return the name of a request's cell in a document."""
    sizes = [
        f"{name}={value}"
        for name in ("batch_size", "source_length", "target_length")
        if (value := getattr(request, name)) is not None
    ]
    return " ".join([*_named(request).values(), *sizes, *request.overrides])


def snapshot_name(request: StepRequest) -> str:
    """Return the name of a request's snapshot in a folder."""
    named = "-".join(_named(request).values()).replace(":", "-")
    return f"{named}-{content_hash({'cell': cell_name(request)})[:8]}.pickle"


def _warm_step(program: StepProgram) -> Callable[[], None]:
    """Return a whole optimizer step that has run once and so has made the optimizer's state."""
    batch = program.make_batch()
    program.model.train()
    optimizer = program.make_optimizer(program.model)

    def step() -> None:
        train_step(program, optimizer, batch, lambda _name: contextlib.nullcontext())

    step()
    return step


def read_document(path: Path | None, device: torch.device) -> Cell:
    """Return the document of a file, to go on with, or a new one.

    Raises:
        UserError: the file is none, cannot be written, or was measured on another device.
    """
    name = device_name(device)
    if path is not None:
        _check_place(path)
    if path is None or not path.is_file():
        head, dirty = commit()
        return {
            "schema": SCHEMA,
            "device": name,
            "commit": head,
            "dirty": dirty,
            "packages": packages(),
            "started_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
            "cells": {},
        }
    document = load_steps(path)
    if document["device"] != name:
        raise UserError(
            f"--save {path}: it holds steps of {document['device']}, and this is {name}; "
            f"name another file."
        )
    return document


def _check_place(path: Path) -> None:
    """Raise UserError where no file can be written: before anything is measured for it."""
    place = path if path.exists() else next(p for p in path.absolute().parents if p.exists())
    if path.is_dir():
        raise UserError(f"--save {path}: this is a folder; name a file in it.")
    if not (place.is_file() or place.is_dir()) or not os.access(place, os.W_OK):
        raise UserError(f"--save {path}: cannot write there; name a file that you may write.")


def write_document(path: Path, document: Cell) -> None:
    """Write a document so that the file is whole at any time."""
    write_atomic(path, json.dumps(document, indent=1).encode())
