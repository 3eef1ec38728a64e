"""Runs on the nodes of a Ray cluster. The output folder must be one that all nodes share.

On a node an agent, which is a Ray actor, keeps a worker process as this machine's own workers are
kept. It is asked for one message at a time: what an epoch has come to, or how the run ended. So a
run's process that dies is the outcome of the run; an agent that is lost has been on a node that
died, and its run goes on from its checkpoint on another.
"""

import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import NodeDiedError, RayActorError

from harness.config import RunConfig
from harness.dispatch import Ended, Process, Watcher, Worker, WorkerPool
from harness.errors import UserError
from harness.record import Epoch, RecordStore, check_writable
from harness.run_options import RunOptions

logger = logging.getLogger(__name__)

MOST_LOSSES = 3
"""Nodes that one run may lose; the run itself may be what brings them down."""
ANSWER_SECONDS = 10.0
"""How long to wait for a cluster; and for an agent, which is not there yet if it is silent."""


class Agent:
    """Keeps a worker process on a node.

    Args:
        options: of every run.
        folder: where relative paths of configurations begin.
    """

    def __init__(self, options: RunOptions, folder: str) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        self.options = options
        self.process = Process(options)
        self.interrupted = False

    def begin(self, config: RunConfig) -> Epoch | Ended:
        """Begin a run and return what it first comes to."""
        if self.interrupted:
            return Ended(0, None, "interrupted", 130)
        if not self.options.output.is_dir():
            return _not_shared(self.options)
        self.process.begin(config)
        return self.listen()

    def go_on(self, reason: str | None) -> Epoch | Ended:
        """Say after an epoch why the run should end, or None, and return what it then comes to."""
        self.process.answer(reason)
        return self.listen()

    def listen(self) -> Epoch | Ended:
        """Return what the run comes to."""
        while (said := self.process.read()) is None:
            pass
        return said

    def interrupt(self) -> None:
        """Interrupt the run, or the next one if none has begun."""
        self.interrupted = True
        self.process.interrupt()


class RayWorker(Worker):
    """An agent on some node, and its next message.

    Args:
        options: of every run.
        largest: the most that a node has, by resource: ``CPU``, ``GPU``.
    """

    def __init__(self, options: RunOptions, largest: dict[str, float]) -> None:
        self.options = options
        self.largest = largest
        self.message: Any = None
        self._agent: Any = None
        self._needs: dict[str, float] = {}
        self._losses = 0
        self._interrupted = False

    def begin(self, config: RunConfig) -> None:
        """See :class:`Worker`."""
        needs = needed(config, self.largest)
        if self._losses or needs != self._needs:
            self.close()
        self.config, self._needs, self._losses = config, needs, 0
        self._send_out(self.options)

    def _send_out(self, options: RunOptions) -> None:
        if self._agent is None:
            kind = ray.remote(Agent).options(
                **self._needs, max_concurrency=2, scheduling_strategy="SPREAD"
            )
            self._agent = kind.remote(options, os.getcwd())
        self.message = self._agent.begin.remote(self.config)

    def read(self) -> Epoch | Ended | None:
        """See :class:`Worker`."""
        try:
            said = ray.get(self.message)
        except (RayActorError, NodeDiedError) as error:
            return self._lost(error)
        if isinstance(said, Ended):
            return self._seen(said)
        self.message = None
        return said

    def _lost(self, error: Exception) -> Ended | None:
        """Begin the run again elsewhere: it goes on from its checkpoint."""
        self.close()
        if self._interrupted:
            return Ended(0, None, "interrupted", 130)
        self._losses += 1
        if getattr(error, "actor_init_failed", False) or self._losses == MOST_LOSSES:
            return Ended(0, None, f"Ray cannot run it: {_reason(error)}", 3)
        logger.warning("A node of the Ray cluster is lost; its run goes on elsewhere.")
        self._send_out(replace(self.options, rerun="failed"))
        return None

    def _seen(self, ended: Ended) -> Ended:
        """Return the end of a run; an error where its record is not in our output folder."""
        if ended.record is None:
            return ended
        path = RecordStore(self.options.output).path(ended.record.run_key)
        return ended if path.is_file() else _not_shared(self.options)

    def answer(self, reason: str | None) -> None:
        """See :class:`Worker`."""
        self.message = self._agent.go_on.remote(reason)

    def interrupt(self) -> None:
        """See :class:`Worker`; an agent that Ray has no place for yet is given up."""
        self._interrupted = True
        heard = self._agent.interrupt.remote()
        if not ray.wait([heard], timeout=ANSWER_SECONDS)[0]:
            ray.kill(self._agent)
        elif self.message is None:
            self.message = self._agent.listen.remote()

    def close(self) -> None:
        """See :class:`Worker`; its process ends with the agent."""
        if self._agent is not None:
            ray.kill(self._agent)
        self._agent = None


class RayPool(WorkerPool[RayWorker]):
    """Workers that are agents on the nodes of a Ray cluster.

    Args:
        workers: runs at a time.
        options: of every run; ``launcher`` is ``ray`` for the cluster of this machine, which is
            started where there is none, or ``ray://HOST:PORT``.
        watcher: who follows the runs.

    Raises:
        UserError: no cluster answers, or the output folder cannot be written.
    """

    def __init__(self, workers: int, options: RunOptions, watcher: Watcher | None = None) -> None:
        super().__init__(workers, replace(options, output=options.output.resolve()), watcher)
        check_writable(options.output)  # it must be there for the agents to see it
        self._connected = not ray.is_initialized()
        if self._connected:
            connect(options)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.largest = {
            kind: max((node.get(kind, 0) for node in nodes), default=0) for kind in ("CPU", "GPU")
        }

    def close(self) -> None:
        """Let the workers go, and the cluster where it was connected here."""
        super().close()
        if self._connected:
            ray.shutdown()

    def _make_worker(self) -> RayWorker:
        return RayWorker(self.options, self.largest)

    def _ready(self, busy: Sequence[RayWorker]) -> Sequence[RayWorker]:
        ready, _ = ray.wait([worker.message for worker in busy])
        return [worker for worker in busy if worker.message in ready]


def connect(options: RunOptions) -> None:
    """Connect to the cluster of a launcher, without telemetry and dashboard, and quietly.

    Raises:
        UserError: none answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = urlsplit(options.launcher)
    try:
        if address.hostname:  # Ray itself would try for minutes
            socket.create_connection((address.hostname, address.port or 0), ANSWER_SECONDS).close()
        ray.init(
            options.launcher if address.hostname else None,
            include_dashboard=False,
            log_to_driver=options.verbosity > 0,
            logging_level=logging.INFO if options.verbosity > 0 else logging.ERROR,
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(
            f"--launcher {options.launcher}: no Ray cluster answers: {_reason(error)}"
        ) from None


def needed(config: RunConfig, largest: dict[str, float]) -> dict[str, float]:
    """Return the cores, as many as the run has threads, and GPUs that Ray keeps for a run.

    Args:
        config: the run.
        largest: the most that a node has.

    Raises:
        UserError: the device is one that Ray cannot give.
    """
    device, _, index = config.device.partition(":")
    if index:
        raise UserError(
            f"--device {config.device} with --launcher ray: Ray chooses the GPU; "
            "write --device cuda."
        )
    if device == "cuda" and not largest["GPU"]:
        raise UserError("--device cuda: no node of the Ray cluster has a GPU.")
    threads = config.train.threads
    return {
        "num_cpus": min(threads, largest["CPU"]) or threads,  # a cluster may grow from nothing
        "num_gpus": 1 if device != "cpu" and largest["GPU"] else 0,
    }


def _reason(error: Exception) -> str:
    """Return the last line of an error of Ray, behind which stands what another process said."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _not_shared(options: RunOptions) -> Ended:
    return Ended(
        0,
        None,
        f"--output {options.output} is not one folder for all nodes of the Ray cluster: what one "
        "writes there the other does not see. Give a folder that they share.",
        UserError.exit_code,
    )
