"""What an output folder holds already, told without loading data or weights."""

from pathlib import Path

import pytest

from harness import known_runs
from harness.config import RunConfig, resolve
from harness.known_runs import KnownRuns
from harness.processor import cpu_name
from harness.record import Record
from harness.run_options import CUT_OFF, Rerun
from harness.testing.records import make_provenance, make_record
from harness.testing.runs import small_request


def config(*overrides: str, **fields: object) -> RunConfig:
    return resolve(small_request("lst", *overrides, **{"device": "cpu", **fields}))


def record(of: RunConfig, status: str = "done", device: str | None = None, day: int = 1) -> Record:
    changes = {"device": device or cpu_name(), "started_at": f"2026-01-{day:02}T12:00:00+00:00"}
    origin = make_provenance().model_copy(update=changes)
    return make_record("lst", config=of.resolved(), status=status, provenance=origin)


def test_a_run_is_known_by_its_whole_configuration() -> None:
    known = KnownRuns([record(config())])
    assert known.standing(config(), "failed") is not None
    assert known.standing(config("train.lr=0.5"), "failed") is None
    assert known.standing(config(seed=1), "failed") is None


@pytest.mark.parametrize(("native", "amp"), [(True, "bf16"), (False, "off"), (None, None)])
def test_auto_stands_only_for_the_precision_that_this_device_settles_it_to(
    native: bool | None, amp: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_runs, "native_bf16", lambda: native)
    records = {"bf16": record(config("train.amp=bf16")), "off": record(config("train.amp=off"))}
    for settled, one in records.items():
        standing = KnownRuns([one]).standing(config("train.amp=auto"), "failed")
        assert (standing == one) == (settled == amp)
        typed = KnownRuns(records.values()).standing(config(f"train.amp={settled}"), "failed")
        assert typed == one


def test_a_later_run_of_another_precision_hides_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_runs, "native_bf16", lambda: False)
    here, there = record(config("train.amp=off")), record(config("train.amp=bf16"), day=2)
    known = KnownRuns([here, there])
    assert known.find(config("train.amp=auto")) == here
    assert known.standing(config("train.amp=auto"), "failed") == here


@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_a_run_of_this_processor_is_none_of_a_gpu(device: str) -> None:
    known = KnownRuns([record(config())])
    assert known.find(config(device=device)) is None
    assert known.standing(config(device=device), "failed") is None
    assert known.standing(config(device="cpu"), "failed") is not None


@pytest.mark.parametrize("has_driver", [True, False])
def test_auto_is_this_processor_only_where_no_gpu_can_be(
    has_driver: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_runs, "may_have_gpu", lambda: has_driver)
    known = KnownRuns([record(config())])
    assert (known.standing(config(device="auto"), "failed") is None) == has_driver


def test_a_later_run_on_a_gpu_hides_none_of_this_processor() -> None:
    here, there = record(config()), record(config(device="cuda"), device="a GPU", day=2)
    assert KnownRuns([here, there]).standing(config(), "failed") == here


def test_runs_of_any_seed_differ_in_nothing_else() -> None:
    of = [config(seed=seed) for seed in (0, 1)] + [config("train.lr=0.5", seed=2)]
    found = KnownRuns(record(one) for one in of).of_any_seed(config(seed=9))
    assert sorted(one.config["seed"] for one in found) == [0, 1]


@pytest.mark.parametrize(
    ("status", "rerun", "stands"),
    [
        ("done", "never", True),
        ("done", "failed", True),
        ("done", "always", False),
        ("diverged", "never", True),
        ("diverged", "failed", False),
        ("oom", "never", True),
        ("cancelled", "never", False),
        ("disk_full", "never", False),
    ],
)
def test_which_outcomes_stand(status: str, rerun: Rerun, stands: bool) -> None:
    known = KnownRuns([record(config(), status)])
    assert (known.standing(config(), rerun) is not None) == stands


def test_a_run_whose_process_was_killed_goes_on() -> None:
    killed = record(config(), "failed").model_copy(update={"error": CUT_OFF})
    failed = killed.model_copy(update={"error": "ValueError: no"})
    assert KnownRuns([killed]).standing(config(), "never") is None
    assert KnownRuns([failed]).standing(config(), "never") is not None


def test_what_may_have_changed_since_must_be_looked_at(tmp_path: Path) -> None:
    own_data = config(data_dir=tmp_path)
    own_weights = config(weights=str(tmp_path))
    for one in (own_data, own_weights):
        assert KnownRuns([record(one)]).find(one) is not None
        assert KnownRuns([record(one)]).standing(one, "failed") is None
    elsewhere = KnownRuns([record(config(), device="another processor")])
    assert elsewhere.standing(config(), "failed") is None
