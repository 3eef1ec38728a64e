"""Measurements of the harness itself: start-up, the loop's overhead, and the main job.

Each returns JSON-ready figures. Run them on an idle machine.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from harness.errors import RunError, UserError, did_you_mean

ROOT = Path(__file__).resolve().parent.parent
QUICK_COMMANDS = (("--help",), ("list",), ("show", "mp_ismoe"))
MAIN_JOB = ("run", "--method", "mp_ismoe", "--task", "vqa")
STARTUP_REPEATS = 5
LOOP_PAIRS = 15
SAMPLE_SECONDS = 0.05
GIB = 2**30

Figures = dict[str, Any]


def measure(name: str | None = None) -> list[Figures]:
    """Run one benchmark, or all of them.

    Raises:
        UserError: there is no benchmark of that name.
    """
    if name is not None and name not in BENCHMARKS:
        raise UserError(f"Unknown benchmark '{name}'.{did_you_mean(name, BENCHMARKS)}")
    return [{"benchmark": n, **BENCHMARKS[n]()} for n in BENCHMARKS if name in (None, n)]


def startup() -> Figures:
    """Return the median seconds of whole processes of the commands that must be quick."""
    return {
        "seconds": {
            " ".join(words): statistics.median(
                _process_seconds(words) for _ in range(STARTUP_REPEATS)
            )
            for words in QUICK_COMMANDS
        }
    }


def _process_seconds(words: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(_command(words), env=_environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "harness", *words]


def _environment() -> dict[str, str]:
    """Return an environment in which a process finds this very source."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def loop() -> Figures:
    """Return how much slower an epoch of the harness's loop is than one of a bare loop.

    Both train the same model on the same stored features, one epoch each in turn, the first of a
    pair alternating. The ratio is the geometric mean over the pairs with its 95 % t-interval.
    """
    from scipy.special import stdtrit

    from harness.bench_loop import Contest

    with tempfile.TemporaryDirectory() as folder:
        contest = Contest(Path(folder))
        contest.warm_up()
        pairs = [contest.pair(harness_first=number % 2 == 0) for number in range(LOOP_PAIRS)]
    logs = [math.log(ours / bare) for ours, bare in pairs]
    half = float(stdtrit(len(logs) - 1, 0.975)) * statistics.stdev(logs) / math.sqrt(len(logs))
    mean = statistics.fmean(logs)
    return {
        "pairs": len(pairs),
        "steps": contest.steps,
        "harness_seconds": statistics.median(ours for ours, _ in pairs),
        "bare_seconds": statistics.median(bare for _, bare in pairs),
        "ratio": math.exp(mean),
        "ratio_interval": [math.exp(mean - half), math.exp(mean + half)],
    }


def job() -> Figures:
    """Run the main job in a new process and return its seconds and its peak anonymous memory.

    Raises:
        RunError: the job failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [*MAIN_JOB, "--output", folder, "--json"]
        with (Path(folder) / "result.json").open("w+") as result:
            start = time.perf_counter()
            process = subprocess.Popen(_command(words), env=_environment(), stdout=result)
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


BENCHMARKS: Mapping[str, Callable[[], Figures]] = {"startup": startup, "loop": loop, "job": job}


def lines(results: Sequence[Figures]) -> Iterator[str]:
    """Yield what ``measure`` returned as text."""
    for figures in results:
        if figures["benchmark"] == "startup":
            for words, seconds in figures["seconds"].items():
                yield f"startup  harness {words}: {seconds:.3f} s (median of {STARTUP_REPEATS})"
        elif figures["benchmark"] == "loop":
            low, high = (100 * (bound - 1) for bound in figures["ratio_interval"])
            yield (
                f"loop     {100 * (figures['ratio'] - 1):+.2f} % over a bare PyTorch loop, "
                f"95 % interval {low:+.2f} .. {high:+.2f} % ({figures['pairs']} pairs of epochs)"
            )
        else:
            (metric, score), *_ = figures["test"].items()
            yield f"job      {figures['command']}: {figures['seconds']:.1f} s"
            yield f"job      {figures['peak_anonymous_bytes'] / GIB:.2f} GiB peak anonymous memory"
            yield f"job      {100 * score:.1f} % {metric} on test"
