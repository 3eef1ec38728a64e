"""Laws of a run: resuming, outcomes, identity. On real questions, cut to a few rows."""

import errno
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from harness.config import RunConfig, resolve
from harness.errors import UserError
from harness.loop import Trainer
from harness.record import Record, RecordStore
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.runs import interrupt_at, small_request

PROFILED = "memory.profile=true"
COMPUTED = ("float", "int8")


def config(method: str = "lst", *overrides: str, **fields: Any) -> RunConfig:
    small = ("train.epochs=3", "memory.profile=false", *overrides)
    return resolve(small_request(method, *small, **fields))


def options(output: Path) -> RunOptions:
    return RunOptions(output=output, tracking_uri="off", verbosity=-1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return run(config("mp_ismoe", PROFILED), options(tmp_path_factory.mktemp("whole")))


def test_a_run_ends_in_a_stored_record(whole: Record) -> None:
    assert whole.status == "done"
    assert len(whole.history) == 3
    assert whole.provenance.limited
    assert set(whole.metrics.baselines) == {"majority", "question_only"}
    assert 0 <= whole.metrics.test[whole.metrics.primary] <= 1
    assert whole.params
    assert whole.params.trainable == sum(whole.params.parts.values())


def test_a_phase_that_a_method_names_is_measured(whole: Record) -> None:
    assert whole.memory
    peaks = whole.memory.phase_peak_bytes
    assert peaks["requantize"] > peaks["load"]


def test_resumed_equals_uninterrupted(
    whole: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        stopped = run(config("mp_ismoe", PROFILED), options(tmp_path))
    assert stopped.status == "cancelled"
    assert len(stopped.history) == 2
    resumed = run(config("mp_ismoe", PROFILED), options(tmp_path))
    assert resumed.core() == whole.core()


def test_a_done_run_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(config("linear_probe"), options(tmp_path))
    monkeypatch.setattr(Trainer, "fit", lambda *_: pytest.fail("trained again"))
    assert run(config("linear_probe"), options(tmp_path)) == first


@pytest.mark.parametrize("method", ["linear_probe", "full"])
def test_same_seed_same_core_other_seed_other_core(method: str, tmp_path: Path) -> None:
    one = run(config(method), options(tmp_path / "one"))
    two = run(config(method), options(tmp_path / "two"))
    other = run(config(method, seed=1), options(tmp_path / "other"))
    assert one.core() == two.core()
    assert other.run_key != one.run_key
    assert other.history[0].loss != one.history[0].loss


def test_divergence_is_a_recorded_outcome(tmp_path: Path) -> None:
    record = run(config("full", "train.lr=1e30"), options(tmp_path))
    assert record.status == "diverged"
    assert record.error
    assert "learning rate" in record.error
    assert [r.run_key for r in RecordStore(tmp_path)] == [record.run_key]


@pytest.mark.parametrize("writes", ["harness.runner.save_tensors", "os.posix_fallocate"])
def test_a_full_disk_is_a_recorded_outcome(
    writes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Space for stored features is taken before it is mapped: a mapped hole would kill."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writes, full)
    record = run(config("linear_probe"), options(tmp_path))
    assert record.status == "disk_full"
    assert not list(tmp_path.rglob("*.safetensors*"))


def test_a_damaged_checkpoint_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        run(config("linear_probe"), options(tmp_path))
    checkpoint = next(tmp_path.rglob("checkpoint.safetensors"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is damaged"):
        run(config("linear_probe"), options(tmp_path))

    (left,) = RecordStore(tmp_path)
    assert left.status == "failed"
    assert "checkpoint.safetensors is damaged" in str(left.error)


def test_what_comes_after_the_last_epoch_is_resumed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle experts, stored bytes and times are those of the whole run."""
    lazy = config("mp_ismoe", "method.experts=64", "method.top_k=1", PROFILED)
    whole = run(lazy, options(tmp_path / "whole"))

    def stop(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.runner.inference_latency", stop)
        stopped = run(lazy, options(tmp_path / "parts"))
    resumed = run(lazy, options(tmp_path / "parts"))
    assert resumed.core() == whole.core()
    assert whole.quality.dead_experts
    assert resumed.time
    assert stopped.time
    assert resumed.time.total_seconds > stopped.time.total_seconds
    assert resumed.time.features.seconds >= stopped.time.features.seconds > 0


def test_a_record_that_cannot_be_written_loses_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = RecordStore.put

    def full(store: RecordStore, record: Record) -> Path:
        if record.status == "done":
            raise OSError(errno.ENOSPC, "no space left on device")
        return put(store, record)

    with monkeypatch.context() as patch:
        patch.setattr(RecordStore, "put", full)
        assert run(config("linear_probe"), options(tmp_path)).status == "disk_full"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", lambda *_: pytest.fail("trained again"))
        assert run(config("linear_probe"), options(tmp_path)).status == "done"
    assert not list(tmp_path.rglob("checkpoint.safetensors"))


def test_an_unwritable_output_is_refused(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot write there"):
        run(config("linear_probe"), options(blocked))


def test_test_rows_are_described_one_by_one(whole: Record, tmp_path: Path) -> None:
    record = run(config("linear_probe"), options(tmp_path))
    rows = (tmp_path / record.artifacts["predictions"].path).read_text().splitlines()
    correct = np.mean([json.loads(row)["correct"] for row in rows])
    assert correct == pytest.approx(record.metrics.test["accuracy"])


def test_stored_features_change_no_prediction_much(tmp_path: Path) -> None:
    stored = run(config("lst"), options(tmp_path / "stored"))
    plain = run(config("lst", "features.enabled=false"), options(tmp_path / "plain"))
    assert stored.time
    assert plain.time
    assert stored.time.features.used
    assert not plain.time.features.used
    losses = [[e.loss for e in r.history] for r in (stored, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_what_a_run_reads_once_is_stored_where_there_is_room(tmp_path: Path) -> None:
    roomy = run(config("lst"), options(tmp_path / "roomy"))
    assert roomy.time
    limit = f"features.max_bytes={roomy.time.features.bytes}"
    tight = run(config("lst", limit), options(tmp_path / "tight"))
    assert tight.time
    assert tight.time.features.used
    assert tight.time.features.bytes == roomy.time.features.bytes
    assert tight.metrics.test == roomy.metrics.test
    entries = [stored_entries(tmp_path / name) for name in ("tight", "roomy")]
    assert len(entries[0]) < len(entries[1])
    later = run(config("lst", "train.lr=0.01"), options(tmp_path / "roomy"))
    assert later.time
    assert later.time.features.seconds == 0
    assert stored_entries(tmp_path / "roomy") == entries[1]


def stored_entries(output: Path) -> list[Path]:
    return sorted(path for path in (output / "features").iterdir() if path.is_dir())


def test_states_computed_otherwise_are_stored_apart(tmp_path: Path) -> None:
    """The same codes, as floats and as integers: each has states of its own."""
    alone, after = tmp_path / "alone", tmp_path / "after"
    asked = [config("mp_ismoe", "method.noise=none", f"method.compute={c}") for c in COMPUTED]
    run(asked[0], options(after))
    first, second = (run(asked[1], options(folder)) for folder in (alone, after))
    assert second.time
    assert second.time.features.seconds > 0
    assert [row.loss for row in second.history] == [row.loss for row in first.history]


def test_what_does_not_fit_leaves_the_features_of_others(tmp_path: Path) -> None:
    run(config("lst"), options(tmp_path))
    before = sorted((tmp_path / "features").iterdir())
    run(config("mp_ismoe", "features.max_bytes=1000"), options(tmp_path))
    assert sorted((tmp_path / "features").iterdir()) == before


def test_features_past_their_limit_are_recomputed(tmp_path: Path) -> None:
    record = run(config("lst", "features.max_bytes=1000"), options(tmp_path))
    assert record.time
    assert not record.time.features.used
    assert "features.max_bytes is 1000" in str(record.time.features.reason)


@pytest.mark.parametrize("method", ["lst", "mp_ismoe", "full", "adapter"])
def test_memory_laws_of_a_run(method: str, whole: Record, tmp_path: Path) -> None:
    record = whole if method == "mp_ismoe" else run(config(method, PROFILED), options(tmp_path))
    memory = record.memory
    assert memory
    assert sum(memory.at_peak_bytes.values()) == memory.train_peak_bytes
    if method in ("lst", "mp_ismoe"):
        assert memory.at_peak_bytes["saved_backbone"] == 0
    assert memory.predicted_train_peak_bytes is not None
    residual = memory.train_peak_bytes - memory.predicted_train_peak_bytes
    if method in ("full", "adapter"):
        assert 0 <= residual <= 64
    else:  # bf16 kernels and the fused attention of ladders have workspace of their own
        assert 0 <= residual <= 0.005 * memory.train_peak_bytes


def test_features_that_another_process_opens_stay(tmp_path: Path) -> None:
    first = run(config("lst"), options(tmp_path))
    assert first.time
    room = f"features.max_bytes={first.time.features.bytes}"
    folder = tmp_path / "features"
    entries = stored_entries(tmp_path)
    assert entries
    with ExitStack() as stack:
        for entry in entries:
            stack.enter_context(FileLock(folder / f".{entry.name}.lock"))
        run(config("lst", room, "train.threads=2"), options(tmp_path))
        assert all((entry / "layout.json").is_file() for entry in entries)
    run(config("lst", room, "train.threads=3"), options(tmp_path))
    assert not any(entry.exists() for entry in entries)


def test_a_full_disk_takes_the_features_of_earlier_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config("lst"), options(tmp_path))
    earlier = stored_entries(tmp_path)
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr("harness.features.shutil.disk_usage", lambda _: full)
    record = run(config("lst", "train.threads=2"), options(tmp_path))
    assert record.status == "done"
    assert not any(entry.exists() for entry in earlier)


def test_features_that_are_used_again_stay_longest(tmp_path: Path) -> None:
    first, second = config("lst", "train.threads=1"), config("lst", "train.threads=2")
    run(first, options(tmp_path))
    used_again = set(stored_entries(tmp_path))
    run(second, options(tmp_path))
    both = set(stored_entries(tmp_path))
    run(first.model_copy(update={"seed": 1}), options(tmp_path))
    held = sum(file.stat().st_size for entry in both for file in entry.iterdir())
    run(config("lst", "train.threads=3", f"features.max_bytes={held}"), options(tmp_path))
    assert both & set(stored_entries(tmp_path)) == used_again
