"""Runs in processes of their own: several at a time, and none takes the others with it.

A worker makes one run after another, in a process on this machine or on a node of a Ray cluster.
A process that dies, out of memory for instance, is an outcome of its run alone. The parent imports
no torch.
"""

import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Protocol, TypeVar

from harness.config import RunConfig
from harness.record import Epoch, Record, RecordStore
from harness.run_options import RunOptions, is_cut_off
from harness.tracking import OFF

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


class Worker(ABC):
    """Makes one run after another, somewhere else.

    Attributes:
        job: the number of the run at work; None where there is none.
    """

    job: int | None = None

    @abstractmethod
    def begin(self, config: RunConfig) -> None:
        """Begin a run."""

    @abstractmethod
    def read(self) -> Epoch | Ended | None:
        """Return what the run has come to: an epoch, its end (of job 0), or nothing to be told."""

    @abstractmethod
    def answer(self, reason: str | None) -> None:
        """Say after an epoch why the run should end, or None."""

    @abstractmethod
    def interrupt(self) -> None:
        """Interrupt the run, which keeps its state."""

    @abstractmethod
    def close(self) -> None:
        """Let the worker go."""


W = TypeVar("W", bound=Worker)


class WorkerPool(ABC, Generic[W]):
    """Workers that share a queue of runs; use it in a ``with`` block.

    Args:
        workers: runs at a time.
        options: of every run; MLflow is left to the parent.
        watcher: see :class:`Watcher`; None for nobody.
    """

    def __init__(self, workers: int, options: RunOptions, watcher: Watcher | None = None) -> None:
        self.workers = workers
        self.options = replace(options, tracking_uri=OFF)
        self.watcher = watcher or Nobody()
        self._queue: deque[tuple[int, RunConfig]] = deque()
        self._workers: list[W] = []

    @abstractmethod
    def _make_worker(self) -> W:
        """Return one more worker."""

    @abstractmethod
    def _ready(self, busy: Sequence[W]) -> Sequence[W]:
        """Wait until some workers have something to say, and return these."""

    def __enter__(self) -> "WorkerPool[W]":
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
        return len(self._queue) + len(self._busy())

    def submit(self, job: int, config: RunConfig) -> None:
        """Queue a run under a number."""
        self._queue.append((job, config))
        self._hand_out()

    def ended(self) -> Iterator[Ended]:
        """Yield jobs as they end, until none is left; more may be submitted meanwhile."""
        while self.unfinished:
            for worker in self._ready(self._busy()):
                assert worker.job is not None
                said = worker.read()
                if isinstance(said, Epoch):
                    worker.answer(self.watcher.epoch(worker.job, said))
                elif said is not None:
                    outcome = replace(said, job=worker.job)
                    worker.job = None
                    self._hand_out()
                    yield outcome

    def interrupt(self) -> Iterator[Ended]:
        """Drop what waits, interrupt what runs, and yield how that ended."""
        self._queue.clear()
        for worker in self._busy():
            worker.interrupt()
        yield from self.ended()

    def close(self) -> None:
        """Let the workers go."""
        self._queue.clear()
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def _busy(self) -> list[W]:
        return [worker for worker in self._workers if worker.job is not None]

    def _hand_out(self) -> None:
        while self._queue and len(self._busy()) < self.workers:
            idle = [worker for worker in self._workers if worker.job is None]
            if not idle:
                idle = [self._make_worker()]
                self._workers += idle
            job, config = self._queue.popleft()
            self.watcher.began(job)
            idle[0].job = job
            idle[0].begin(config)


class Process(Worker):
    """A process of this machine, which is started again if it died.

    Args:
        options: of every run.
    """

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        self._run_key: str | None = None
        self._interrupted = False
        self._start()

    def begin(self, config: RunConfig) -> None:
        """See :class:`Worker`."""
        if not self._process.is_alive():
            self._start()
        self._run_key, self._interrupted = None, False
        with suppress(ConnectionError):  # it died meanwhile, which its connection tells
            self.connection.send(config)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_work, args=(theirs, self.options), daemon=True
        )
        multiprocessing.resource_tracker.ensure_running()  # to start it would end the blocking
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()  # there Ctrl-C waits until the process can take it
        finally:
            theirs.close()  # before Ctrl-C: an end that is open here hides that the other died
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    def read(self) -> Epoch | Ended | None:
        """See :class:`Worker`."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):  # the latter in the middle of a message
            return self._died()
        if kind == "key":
            self._run_key = value
            return None
        assert isinstance(value, Epoch | Ended)
        return value

    def _died(self) -> Ended:
        """Return the end of a run whose process is gone; its Record says so too.

        Where the Record tells of an outcome, the process died behind it.
        """
        self._process.join()
        status, error, code = "failed", f"the run's process {_cause(self._process.exitcode)}", 3
        if self._interrupted:
            status, error, code = "cancelled", "interrupted; repeat the command to go on", 130
        store = RecordStore(self.options.output)
        known = store.get(self._run_key) if self._run_key else None
        if known is None:
            return Ended(0, None, error, code)
        if is_cut_off(known):
            known = known.model_copy(update={"status": status, "error": error})
            store.put(known)
        return Ended(0, known)

    def answer(self, reason: str | None) -> None:
        """See :class:`Worker`."""
        with suppress(BrokenPipeError):  # it died meanwhile, which the next message tells
            self.connection.send(reason)

    def interrupt(self) -> None:
        """See :class:`Worker`."""
        self._interrupted = True
        if self._process.is_alive():
            os.kill(int(self._process.pid or 0), signal.SIGINT)

    def close(self) -> None:
        """End the process: by itself where it has nothing to do."""
        self.connection.close()
        self._process.join(LEAVE_SECONDS if self.job is None else 0)
        if self._process.is_alive():
            self._process.kill()


def _cause(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "was killed (signal 9), as a system does that runs out of memory"
    if exit_code is not None and exit_code < 0:
        return f"was ended by signal {-exit_code} ({signal.Signals(-exit_code).name})"
    return f"ended by itself with code {exit_code}"


def _work(connection: "Connection[Any, Any]", options: RunOptions) -> None:
    """Be a worker: run what arrives, until the parent closes the connection.

    The import takes seconds; until it is done Ctrl-C ends the process, which has nothing to keep.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from harness.worker import work

    work(connection, options)


class Pool(WorkerPool[Process]):
    """Workers that are processes of this machine."""

    def _make_worker(self) -> Process:
        return Process(self.options)

    def _ready(self, busy: Sequence[Process]) -> Sequence[Process]:
        ready = wait([worker.connection for worker in busy])
        return [worker for worker in busy if worker.connection in ready]


def make_pool(workers: int, options: RunOptions, watcher: Watcher) -> WorkerPool[Any]:
    """Return the pool that a launcher stands for.

    Args:
        workers: runs at a time.
        options: of every run; ``launcher`` says where they are made.
        watcher: who follows them.

    Raises:
        UserError: no Ray cluster answers.
    """
    if options.launcher == "local":
        return Pool(workers, options, watcher)
    from harness.ray_pool import RayPool

    return RayPool(workers, options, watcher)


def run_all(
    configs: Sequence[RunConfig], workers: int, options: RunOptions, watcher: Watcher
) -> Iterator[Ended]:
    """Run configurations in worker processes and yield them as they end.

    On Ctrl-C what runs is interrupted, keeps its state and is yielded as ``cancelled``.

    Args:
        configs: their positions are the numbers of the jobs.
        workers: processes at a time.
        options: of every run.
        watcher: who follows them.

    Raises:
        UserError: no Ray cluster answers that was asked for.
    """
    with make_pool(workers, options, watcher) as pool:
        try:
            for job, config in enumerate(configs):
                pool.submit(job, config)
            yield from pool.ended()
        except KeyboardInterrupt:
            yield from pool.interrupt()
