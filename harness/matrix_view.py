"""What the user sees of many runs. Everything is written to stderr."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.config import RunConfig
from harness.dispatch import Ended
from harness.record import Epoch, Record

GIB = 2**30
REFRESH_SECONDS = 0.5


@dataclass
class _Job:
    config: RunConfig
    name: str
    primary: str
    began: float | None = None
    last: Epoch | None = None


class MatrixView:
    """Follows the jobs of a matrix: a line for each that ends, and on a terminal what is at work.

    Args:
        verbosity: below 0 nothing is shown; above 0 every epoch has a line.
    """

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self.jobs: list[_Job] = []
        self.working: dict[int, _Job] = {}
        self.total = self.known = self.done = self.failed = 0
        self.live: Live | None = None
        self.drawn = 0.0

    def start(self, configs: Sequence[RunConfig], known: int) -> None:
        """Begin; ``configs`` are the jobs to come, ``known`` runs stand from before."""
        self.known = known
        self.expect(len(configs))
        for config in configs:
            self.add(config)
        if known:
            self.say(f"{known} of {known + len(configs)} runs stand from before.")
        if self.verbosity >= 0 and self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
            self.live.start()

    def expect(self, total: int) -> None:
        """Set the number of jobs."""
        self.total = total

    def add(self, config: RunConfig, setting: str = "") -> None:
        """Name the next job; ``setting`` is what sets it apart from others of its name."""
        from harness.cards import TASKS

        name = f"{config.method.label} on {config.task.name}, seed {config.seed}"
        primary = TASKS.card(config.task.name).primary
        self.jobs.append(_Job(config, f"{name}{setting and f', {setting}'}", primary))

    def config_of(self, job: int) -> RunConfig:
        """Return the run that a job makes."""
        return self.jobs[job].config

    def began(self, job: int) -> None:
        """See ``harness.dispatch.Watcher``."""
        self.jobs[job].began = time.monotonic()
        self.working[job] = self.jobs[job]
        self._draw(now=True)

    def epoch(self, job: int, row: Epoch) -> str | None:
        """See ``harness.dispatch.Watcher``; ends no run."""
        self.jobs[job].last = row
        if self.verbosity > 0:
            self.say(f"{self.jobs[job].name}: {self._progress(self.jobs[job])}")
        self._draw()
        return None

    def ended(self, ended: Ended) -> None:
        """Say how a job ended."""
        job = self.jobs[ended.job]
        self.working.pop(ended.job, None)
        self.done += 1
        record = ended.record
        if record is None:
            self.failed += 1
            outcome = f"could not be run: {ended.error}"
        elif record.status != "done":
            self.failed += 1
            outcome = f"{record.status}: {record.error}"
        else:
            memory = record.memory
            peak = f", peak {memory.train_peak_bytes / GIB:.4f} GiB" if memory else ""
            took = f", {record.time.total_seconds:.0f} s" if record.time else ""
            outcome = f"{_score(record)}{peak}{took}"
        self.say(f"[{self.done}/{self.total}] {job.name}: {outcome}")
        self._draw(now=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def say(self, text: str) -> None:
        """Say one thing that stays on the screen."""
        if self.verbosity >= 0:
            self.console.print(Text(text))

    def _draw(self, *, now: bool = False) -> None:
        if self.live is None or not (now or time.monotonic() - self.drawn >= REFRESH_SECONDS):
            return
        self.drawn = time.monotonic()
        waiting = self.total - self.done - len(self.working)
        head = (
            f"{self.done} of {self.total} done, {self.failed} of them not well, "
            f"{len(self.working)} at work, {waiting} waiting"
        )
        lines = [head, *(f"  {j.name}: {self._progress(j)}" for j in self.working.values())]
        text = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
        self.live.update(text, refresh=True)

    def _progress(self, job: _Job) -> str:
        if job.last is None:
            return "at work"
        score = job.last.val.get(job.primary)
        shown = "" if score is None else f", {job.primary} {100 * score:.1f} % (validation)"
        return f"epoch {job.last.epoch}/{job.config.train.epochs}, loss {job.last.loss:.4f}{shown}"


def _score(record: Record) -> str:
    """Return the primary score in words: on test, or on validation where test stayed closed."""
    metrics = record.metrics
    split, scores = ("test", metrics.test) if metrics.test else ("validation", metrics.val)
    return f"{metrics.primary} {100 * scores[metrics.primary]:.1f} % ({split})"
