"""The main job as a process of its own: its time and memory."""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from harness.benchmarks.processes import GIB, command, environment
from harness.errors import RunError

MAIN_JOB = ("run", "--method", "mp_ismoe", "--task", "vqa")
SAMPLE_SECONDS = 0.05


def measure() -> dict[str, Any]:
    """Run the main job in a new process and return its seconds and its peak anonymous memory.

    Raises:
        RunError: the job failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [*MAIN_JOB, "--output", folder, "--json"]
        with (Path(folder) / "result.json").open("w+") as result:
            start = time.perf_counter()
            process = subprocess.Popen(command(words), env=environment(), stdout=result)
            peak = _watch(process)
            seconds = time.perf_counter() - start
            result.seek(0)
            text = result.read()
        if process.returncode != 0:
            raise RunError("failed", f"harness {' '.join(words)} ended with {process.returncode}")
        record = json.loads(text)
    metrics = record["metrics"]
    return {
        "command": "harness " + " ".join(MAIN_JOB),
        "seconds": seconds,
        "peak_anonymous_bytes": peak,
        "test": {metrics["primary"]: metrics["test"][metrics["primary"]]},
    }


def _watch(process: "subprocess.Popen[Any]") -> int:
    """Return the highest sum of anonymous resident bytes of a process and its children."""
    peak = 0
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [root, *root.children(recursive=True)]
            peak = max(peak, sum(_anonymous_bytes(member.pid) for member in family))
        except psutil.NoSuchProcess:
            break
        time.sleep(SAMPLE_SECONDS)
    process.wait()
    return peak


def _anonymous_bytes(pid: int) -> int:
    """Return ``RssAnon`` of a process, 0 where it has just ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = [line.split() for line in text.splitlines() if line.startswith("RssAnon:")]
    return int(fields[0][1]) * 1024 if fields else 0


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """Yield time, memory and score."""
    (metric, score), *_ = figures["test"].items()
    yield f"{figures['command']}: {figures['seconds']:.1f} s"
    yield f"{figures['peak_anonymous_bytes'] / GIB:.2f} GiB peak anonymous memory"
    yield f"{100 * score:.1f} % {metric} on test"
