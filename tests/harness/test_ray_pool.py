"""Runs on a Ray cluster of two workers: outcomes, deaths, lost nodes, interruptions."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.config import RunConfig, resolve
from harness.dispatch import Nobody, make_pool, run_all
from harness.errors import UserError
from harness.record import Epoch
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.runs import small_request

ray = pytest.importorskip("ray", reason="needs the package ray")
from harness.ray_pool import RayWorker, needed  # noqa: E402

pytestmark = pytest.mark.slow


def config(*overrides: str, **fields: object) -> RunConfig:
    small = ("train.epochs=2", "memory.profile=false", *overrides)
    return resolve(small_request("lst", *small, **fields))


def options(output: Path, **fields: Any) -> RunOptions:
    return RunOptions(output, "off", -1, launcher="ray", **fields)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without cores, and two nodes of one core."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        found = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            found.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", found.address)
        yield found
        found.shutdown()


class Watch(Nobody):
    """Writes down what it is told, ends job 1 early, and meddles once after an epoch."""

    def __init__(self, meddle: Callable[[], None] = lambda: None) -> None:
        self.meddle = meddle
        self.told: list[tuple[int, int]] = []

    def epoch(self, job: int, row: Epoch) -> str | None:
        self.told.append((job, row.epoch))
        if len(self.told) == 1:
            self.meddle()
        return "enough" if job == 1 else None


def run_process(cluster: Any) -> psutil.Process:
    """Return the process of the cluster's only run."""
    raylets = [info.process.pid for n in cluster.worker_nodes for info in n.all_processes["raylet"]]
    (found,) = [
        child
        for raylet in raylets
        for child in psutil.Process(raylet).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]
    return found


def lose_node(cluster: Any) -> None:
    """Kill the node on which the only run is at work."""
    parents = {parent.pid for parent in run_process(cluster).parents()}
    (node,) = [
        node
        for node in cluster.worker_nodes
        if parents & {info.process.pid for info in node.all_processes["raylet"]}
    ]
    cluster.remove_node(node, allow_graceful=False)


def test_runs_end_as_they_do_in_processes_of_this_machine(cluster: Any, tmp_path: Path) -> None:
    configs = [config(), config(seed=1), config(data_dir=tmp_path / "none", dataset="daquar")]
    watch = Watch()
    whole, stopped, missing = sorted(
        run_all(configs, 2, options(tmp_path / "ray"), watch), key=lambda ended: ended.job
    )
    alone = run(config(), RunOptions(tmp_path / "alone", "off", -1))
    assert whole.record is not None
    assert whole.record.core() == alone.core()
    assert stopped.record is not None
    assert (stopped.record.status, stopped.record.error) == ("cancelled", "enough")
    assert (missing.record, missing.exit_code) == (None, 2)
    assert sorted(watch.told) == [(0, 1), (0, 2), (1, 1)]
    assert not ray.is_initialized()


def test_a_killed_process_is_the_outcome_of_its_run(cluster: Any, tmp_path: Path) -> None:
    watch = Watch(lambda: run_process(cluster).kill())
    (killed,) = run_all([config()], 1, options(tmp_path), watch)
    assert killed.record is not None
    assert killed.record.status == "failed"
    assert "signal 9" in str(killed.record.error)


def test_a_run_whose_node_is_lost_goes_on_elsewhere(cluster: Any, tmp_path: Path) -> None:
    watch = Watch(lambda: lose_node(cluster))
    (ended,) = run_all([config()], 1, options(tmp_path / "ray", rerun="never"), watch)
    cluster.add_node(num_cpus=1)
    alone = run(config(), RunOptions(tmp_path / "alone", "off", -1))
    assert ended.record is not None
    assert ended.record.core() == alone.core()


def test_ctrl_c_reaches_what_is_at_work_and_drops_what_waits(cluster: Any, tmp_path: Path) -> None:
    watch = Watch(lambda: os.kill(os.getpid(), signal.SIGINT))
    (ended,) = run_all([config(), config(seed=1)], 1, options(tmp_path), watch)
    assert ended.record is not None
    assert ended.record.status == "cancelled"


@pytest.mark.parametrize("is_there", [True, False])
def test_an_output_folder_that_the_nodes_do_not_share(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    theirs = tmp_path / "theirs"
    if is_there:
        theirs.mkdir()
    send_out = RayWorker._send_out

    def send_astray(worker: RayWorker, told: RunOptions) -> None:
        send_out(worker, replace(told, output=theirs))

    monkeypatch.setattr(RayWorker, "_send_out", send_astray)
    (ended,) = run_all([config("train.epochs=1")], 1, options(tmp_path / "ours"), Nobody())
    assert (ended.record, ended.exit_code) == (None, 2)
    assert "is not one folder for all nodes" in str(ended.error)


def test_a_gpu_is_chosen_by_ray() -> None:
    none, one = {"CPU": 4.0, "GPU": 0.0}, {"CPU": 4.0, "GPU": 1.0}
    assert needed(config(device="auto"), none) == {"num_cpus": 1, "num_gpus": 0}
    assert needed(config(device="auto"), one) == {"num_cpus": 1, "num_gpus": 1}
    assert needed(config(device="cpu"), one)["num_gpus"] == 0
    with pytest.raises(UserError, match=r"--device cuda:1 .*write --device cuda"):
        needed(config(device="cuda:1"), one)
    with pytest.raises(UserError, match="no node of the Ray cluster has a GPU"):
        needed(config(device="cuda"), none)


def test_a_run_never_asks_for_more_cores_than_a_node_has() -> None:
    asked = config("train.threads=8")
    assert needed(asked, {"CPU": 4.0, "GPU": 0.0})["num_cpus"] == 4
    assert needed(asked, {"CPU": 0.0, "GPU": 0.0})["num_cpus"] == 8


def test_where_no_cluster_answers_one_message_says_so(tmp_path: Path) -> None:
    nowhere = RunOptions(tmp_path, "off", -1, launcher="ray://127.0.0.1:1")
    with pytest.raises(UserError, match=r"--launcher ray://127\.0\.0\.1:1: no Ray cluster answers"):
        make_pool(1, nowhere, Nobody())
