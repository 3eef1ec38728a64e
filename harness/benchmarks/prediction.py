"""Predicted training steps of T5: the seconds they take, and the memory of the whole process."""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

from harness.benchmarks.processes import GIB, command, environment
from harness.clock import seconds
from harness.errors import RunError
from harness.paper_step import StepRequest, predict_step

BACKBONES = ("t5-base", "t5-large")
METHODS = ("full", "lora", "lst", "qst", "mp_ismoe")


def measure() -> dict[str, Any]:
    """Predict every method's step at the paper's batch, and the largest in a new process.

    The seconds are those of a second prediction in this process, all modules being loaded.

    Raises:
        RunError: the new process failed.
    """
    predict_step(StepRequest(METHODS[-1], "t5-small"))
    taken = {
        f"{method} on {backbone}": seconds(partial(predict_step, StepRequest(method, backbone)))
        for backbone in BACKBONES
        for method in METHODS
    }
    words = ["memory", "predict", "--method", METHODS[-1], "--backbone", BACKBONES[-1], "--json"]
    return {"seconds": taken, "command": "harness " + " ".join(words), **_process(words)}


def _process(words: list[str]) -> dict[str, Any]:
    """Return the seconds of a process and the most memory that it had resident."""
    usage: Any = None

    def run() -> None:
        nonlocal usage
        process = subprocess.Popen(
            command(words), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            code = process.returncode
            raise RunError("failed", f"harness {' '.join(words)} ended with {code}")

    taken = seconds(run)
    return {"process_seconds": taken, "process_resident_bytes": usage.ru_maxrss * 1024}


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each prediction, and one for the process."""
    for name, taken in figures["seconds"].items():
        yield f"{name}: {taken:.1f} s"
    resident = figures["process_resident_bytes"] / GIB
    yield (
        f"{figures['command']}: {figures['process_seconds']:.1f} s, "
        f"{resident:.2f} GiB resident at most"
    )
