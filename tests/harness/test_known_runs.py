"""What an output folder holds already, told without loading data or weights."""

from pathlib import Path

import pytest

from harness.config import RunConfig, resolve
from harness.known_runs import KnownRuns
from harness.processor import cpu_name
from harness.record import Record
from harness.run_options import CUT_OFF, Rerun
from harness.testing.records import make_provenance, make_record
from harness.testing.runs import small_request


def config(*overrides: str, **fields: object) -> RunConfig:
    return resolve(small_request("lst", *overrides, **fields))


def record(of: RunConfig, status: str = "done", device: str | None = None) -> Record:
    origin = make_provenance().model_copy(update={"device": device or cpu_name()})
    return make_record("lst", config=of.resolved(), status=status, provenance=origin)


def test_a_run_is_known_by_its_whole_configuration() -> None:
    known = KnownRuns([record(config())])
    assert known.standing(config(), "failed") is not None
    assert known.standing(config("train.lr=0.5"), "failed") is None
    assert known.standing(config(seed=1), "failed") is None


def test_what_a_device_settles_is_no_other_run() -> None:
    auto, settled = config("train.amp=auto"), config("train.amp=bf16")
    assert KnownRuns([record(settled)]).standing(auto, "failed") is not None
    assert KnownRuns([record(settled)]).standing(config("train.amp=off"), "failed") is None


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
