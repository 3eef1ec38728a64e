"""Runs in processes of their own: outcomes, deaths, interruptions. On real questions, few rows."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.config import RunConfig, resolve
from harness.dispatch import Ended, Nobody, Pool, Process, run_all
from harness.record import Epoch, RecordStore
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.runs import small_request


def config(*overrides: str, method: str = "lst", **fields: object) -> RunConfig:
    small = ("train.epochs=2", "memory.profile=false", *overrides)
    return resolve(small_request(method, *small, **fields))


def options(output: Path) -> RunOptions:
    return RunOptions(output=output, tracking_uri="off", verbosity=-1)


class Meddler(Nobody):
    """Sends a signal to the worker after the first epoch of a job; ends a later job early."""

    def __init__(self, number: signal.Signals, process: str = "worker") -> None:
        self.number = number
        self.process = process
        self.sent = False

    def epoch(self, job: int, row: Epoch) -> str | None:
        if self.sent:
            return "enough"
        self.sent = True
        os.kill(os.getpid() if self.process == "own" else worker_pids()[0], self.number)
        return None


def worker_pids() -> list[int]:
    children = psutil.Process().children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture
def heard() -> Iterator[None]:
    """Let Ctrl-C be heard, also where a shell started these tests as a job that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Ended]]:
    """A run whose process is killed, one that cannot begin, and one that is ended early."""
    output = tmp_path_factory.mktemp("ended")
    configs = [config(), config(data_dir=output / "none", dataset="daquar"), config(seed=1)]
    return output, list(run_all(configs, 1, options(output), Meddler(signal.SIGKILL)))


def test_a_killed_process_is_the_outcome_of_its_run_alone(
    ended: tuple[Path, list[Ended]],
) -> None:
    output, (killed, *others) = ended
    assert (killed.job, [one.job for one in others]) == (0, [1, 2])
    assert killed.record is not None
    assert killed.record.status == "failed"
    assert "signal 9" in str(killed.record.error)
    assert RecordStore(output).get(killed.record.run_key) == killed.record


def test_a_run_that_cannot_begin_says_why(ended: tuple[Path, list[Ended]]) -> None:
    _, (_, missing, _) = ended
    assert missing.record is None
    assert missing.exit_code == 2
    assert "none" in str(missing.error)


def test_who_follows_a_run_may_end_it(ended: tuple[Path, list[Ended]]) -> None:
    _, (_, _, stopped) = ended
    assert stopped.record is not None
    assert (stopped.record.status, stopped.record.error) == ("cancelled", "enough")


def test_the_workers_are_gone_with_the_pool(ended: tuple[Path, list[Ended]]) -> None:
    assert worker_pids() == []


def test_a_killed_run_goes_on_and_is_the_run_of_one_process(
    ended: tuple[Path, list[Ended]], tmp_path: Path
) -> None:
    output, _ = ended
    again = run(config(), options(output))
    alone = run(config(), options(tmp_path))
    assert again.status == "done"
    assert again.core() == alone.core()


class Impatient(Nobody):
    """Presses Ctrl-C when the second job would begin, while the first one's process starts."""

    def began(self, job: int) -> None:
        if job == 1:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
@pytest.mark.usefixtures("heard")
def test_ctrl_c_before_the_first_run_began_is_an_interruption(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = list(run_all([config(), config(seed=1)], 2, options(tmp_path), Impatient()))
    assert [(one.job, one.record, one.exit_code) for one in ended] == [(0, None, 130)]
    assert "Traceback" not in capfd.readouterr().err


class Deaf(Process):
    """A process that is killed after its run has ended, before this is heard."""

    def read(self) -> Epoch | Ended | None:
        said = super().read()
        if not isinstance(said, Ended) or self.is_killed:
            return said
        self.is_killed = True
        self._process.kill()
        return None

    is_killed = False


@pytest.mark.slow
def test_a_process_that_dies_behind_its_run_takes_nothing_back(tmp_path: Path) -> None:
    class DeafPool(Pool):
        def _make_worker(self) -> Process:
            return Deaf(self.options)

    with DeafPool(1, options(tmp_path)) as pool:
        pool.submit(0, config("train.epochs=1"))
        (ended,) = pool.ended()
    assert ended.record is not None
    assert ended.record.status == "done"
    assert RecordStore(tmp_path).get(ended.record.run_key) == ended.record


@pytest.mark.usefixtures("heard")
def test_ctrl_c_reaches_what_is_at_work_and_drops_what_waits(tmp_path: Path) -> None:
    meddler = Meddler(signal.SIGINT, "own")
    ended = list(run_all([config(), config(seed=1)], 1, options(tmp_path), meddler))
    assert len(ended) == 1
    assert ended[0].record is not None
    assert ended[0].record.status == "cancelled"


def test_a_pool_without_jobs_has_nothing_to_wait_for(tmp_path: Path) -> None:
    with Pool(2, options(tmp_path)) as pool:
        assert pool.free == 2
        assert list(pool.ended()) == []
