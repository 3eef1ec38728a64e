"""Runs in processes of their own: several at a time, and none takes the others with it.

A worker process runs one configuration after another. One that dies, out of memory for instance,
is an outcome of its run alone, and another takes its place. The parent imports no torch.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Protocol

from harness.config import RunConfig
from harness.record import Epoch, Record, RecordStore
from harness.tracking import OFF

if TYPE_CHECKING:
    from harness.run_options import RunOptions

LEAVE_SECONDS = 60.0


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        job: its number, as it was submitted under.
        record: of the run; None where it could not begin.
        error: why it could not begin.
        exit_code: that belongs to the error.
    """

    job: int
    record: Record | None
    error: str | None = None
    exit_code: int = 0


class Watcher(Protocol):
    """Who follows jobs while they run."""

    def began(self, job: int) -> None:
        """A worker has taken the job."""

    def epoch(self, job: int, row: Epoch) -> str | None:
        """An epoch is done; return why the run should end here, or None."""


class Nobody:
    """Follows nothing, and ends nothing early."""

    def began(self, job: int) -> None:
        """See :class:`Watcher`."""

    def epoch(self, job: int, row: Epoch) -> str | None:  # noqa: ARG002
        """See :class:`Watcher`."""
        return None


@dataclass
class _Worker:
    process: BaseProcess
    connection: "Connection[Any, Any]"
    job: int | None = None
    run_key: str | None = None


@dataclass
class Pool:
    """Worker processes that share a queue of runs; use it in a ``with`` block.

    Args:
        workers: processes at a time.
        options: of every run; MLflow is left to the parent.
        watcher: see :class:`Watcher`.
    """

    workers: int
    options: "RunOptions"
    watcher: Watcher = field(default_factory=Nobody)
    _queue: deque[tuple[int, RunConfig]] = field(default_factory=deque)
    _alive: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def free(self) -> int:
        """How many more jobs would begin at once."""
        return self.workers - self.unfinished

    @property
    def unfinished(self) -> int:
        """Jobs that were submitted and have not ended."""
        return len(self._queue) + sum(worker.job is not None for worker in self._alive)

    def submit(self, job: int, config: RunConfig) -> None:
        """Queue a run under a number."""
        self._queue.append((job, config))
        self._hand_out()

    def ended(self) -> Iterator[Ended]:
        """Yield jobs as they end, until none is left; more may be submitted meanwhile."""
        while self.unfinished:
            busy = {w.connection: w for w in self._alive if w.job is not None}
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                outcome = self._read(busy[ready])
                if outcome is not None:
                    self._hand_out()
                    yield outcome

    def interrupt(self) -> Iterator[Ended]:
        """Drop what waits, interrupt what runs, and yield how that ended."""
        self._queue.clear()
        for worker in self._alive:
            if worker.job is not None and worker.process.pid is not None:
                os.kill(worker.process.pid, signal.SIGINT)
        yield from self.ended()

    def close(self) -> None:
        """Let the workers go: each ends when it has nothing to do."""
        self._queue.clear()
        for worker in self._alive:
            worker.connection.close()
        for worker in self._alive:
            worker.process.join(LEAVE_SECONDS if worker.job is None else 0)
            if worker.process.is_alive():
                worker.process.kill()
        self._alive.clear()

    def _hand_out(self) -> None:
        while self._queue:
            idle = [worker for worker in self._alive if worker.job is None]
            if not idle and len(self._alive) >= self.workers:
                return
            worker = idle[0] if idle else self._start()
            worker.job, config = self._queue.popleft()
            worker.run_key = None
            self.watcher.began(worker.job)
            worker.connection.send(config)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        options = replace(self.options, tracking_uri=OFF)
        process = context.Process(target=_work, args=(theirs, options), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._alive.append(worker)
        return worker

    def _read(self, worker: _Worker) -> Ended | None:
        """Take one message of a worker; return how its job ended, once it has."""
        assert worker.job is not None
        job = worker.job
        try:
            kind, value = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._died(worker)
        if kind == "key":
            worker.run_key = value
        elif kind == "epoch":
            with suppress(BrokenPipeError):  # it died meanwhile, which the next message tells
                worker.connection.send(self.watcher.epoch(job, value))
        else:
            worker.job = None
            return replace(value, job=job)
        return None

    def _died(self, worker: _Worker) -> Ended:
        """Return the end of a run whose process is gone; its Record says so too."""
        assert worker.job is not None
        self._alive.remove(worker)
        worker.process.join()
        error = f"the run's process {_cause(worker.process.exitcode)}"
        store = RecordStore(self.options.output)
        known = store.get(worker.run_key) if worker.run_key else None
        if known is None:
            return Ended(worker.job, None, error, 3)
        record = known.model_copy(update={"status": "failed", "error": error})
        store.put(record)
        return Ended(worker.job, record)


def _cause(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "was killed (signal 9), as a system does that runs out of memory"
    if exit_code is not None and exit_code < 0:
        return f"was ended by signal {-exit_code} ({signal.Signals(-exit_code).name})"
    return f"ended by itself with code {exit_code}"


def _work(connection: "Connection[Any, Any]", options: "RunOptions") -> None:
    """Be a worker: run what arrives, until the parent closes the connection."""
    from harness.worker import work

    work(connection, options)


def run_all(
    configs: Sequence[RunConfig], workers: int, options: "RunOptions", watcher: Watcher
) -> Iterator[Ended]:
    """Run configurations in worker processes and yield them as they end.

    On Ctrl-C what runs is interrupted, keeps its state and is yielded as ``cancelled``.

    Args:
        configs: their positions are the numbers of the jobs.
        workers: processes at a time.
        options: of every run.
        watcher: who follows them.
    """
    with Pool(workers, options, watcher) as pool:
        for job, config in enumerate(configs):
            pool.submit(job, config)
        try:
            yield from pool.ended()
        except KeyboardInterrupt:
            yield from pool.interrupt()
