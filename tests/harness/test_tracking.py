import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.groups import Group, save_group
from harness.record import RecordStore, file_artifact
from harness.testing.records import make_record
from harness.tracking import TrackingWorker, check_uri, run_files, sync, without_password

TABLES = {
    "params": "select key, value from params order by 1, 2",
    "metrics": "select key, step, value, timestamp from metrics order by 1, 2, 3",
    "tags": "select key, value from tags where key not like 'mlflow.%' order by 1, 2",
    "runs": "select name, status, start_time, end_time from runs "
    "where lifecycle_stage = 'active' order by 1",
    "datasets": "select name, digest from datasets order by 1",
}


@pytest.mark.parametrize(
    "uri",
    ["sqlite:///runs/a.db", "http://host:5000", "https://host", "postgresql+psycopg2://u:p@h/db"],
)
def test_places_that_mlflow_knows_are_accepted(uri):
    check_uri(uri)


@pytest.mark.parametrize(
    "uri",
    ["./mlruns", "file:/data/mlruns", "file:///data", "sqlite:///", "htp://host", "http://", ""],
)
def test_other_places_are_refused_with_what_was_typed_and_a_way_out(uri, tmp_path):
    with pytest.raises(UserError) as caught:
        TrackingWorker.start(uri, tmp_path)
    assert f"'{uri}'" in str(caught.value)
    assert "sqlite:///FILE.db" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_nearest_scheme_is_named():
    with pytest.raises(UserError, match="Did you mean 'http://'"):
        check_uri("htp://host:5000")


def test_off_starts_nothing_and_imports_nothing(tmp_path):
    worker = TrackingWorker.start("off", tmp_path)
    assert worker.finish(tmp_path / "no-record.json", []) is None
    worker.close()
    assert not list(tmp_path.iterdir())
    code = (
        "import sys, harness.tracking; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=_env()).returncode == 0


def test_passwords_are_not_shown():
    assert without_password("postgresql://ann:secret@host:5/db") == "postgresql://host:5/db"
    assert without_password("mysql://host/db?password=secret") == "mysql://host/db"
    assert without_password("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"


def test_a_server_that_is_down_costs_a_warning_and_nothing_else(tmp_path):
    path = RecordStore(tmp_path).put(make_record())
    worker = TrackingWorker.start("http://ann:secret@127.0.0.1:9", tmp_path)
    warning = worker.finish(path, [], timeout_seconds=60)
    assert warning is not None
    assert "harness sync" in warning
    assert "secret" not in warning


def test_a_slow_worker_is_left_behind(tmp_path):
    path = RecordStore(tmp_path).put(make_record())
    worker = TrackingWorker.start("http://127.0.0.1:9", tmp_path)
    warning = worker.finish(path, [], timeout_seconds=0.0)
    assert warning is not None
    assert "gave no answer in 0 s" in warning
    assert worker.log(path, []) is not None
    assert worker._process.wait(60) == 0  # it ends by itself when its stdin is closed


def test_mlflow_is_rebuilt_from_records_alone(tmp_path):
    output = tmp_path / "an output, 100%"
    first, paths = _write_runs(output)
    worker = TrackingWorker.start(None, output)
    assert worker.log(paths[0], run_files(first, output), 60) is None
    assert worker.log(paths[0], run_files(first, output), 60) is None
    assert worker.finish(paths[1], [], 60) is None
    assert worker._process.wait(60) == 0
    before = _contents(output)
    assert len(before["runs"]) == 2
    assert ("mp_ismoe-vqa-0", "FINISHED") in [row[:2] for row in before["runs"]]
    assert ("train.lr", "0.001") in before["params"]
    assert ("test/accuracy/what_ _script_") in [row[0] for row in before["metrics"]]
    steps = [row[1] for row in before["metrics"] if row[0] == "epoch/loss"]
    assert steps == [1, 1, 2, 2, 3, 3, 4, 4]
    names = {path.name for path in (output / "mlartifacts").rglob("*") if path.is_file()}
    assert {paths[0].name, "learning_curve.png", "predictions.jsonl"} <= names

    (output / "mlflow.db").unlink()
    assert [warning for _, warning in sync(None, output)] == [None, None]
    assert _contents(output) == before


def test_a_damaged_record_is_told_and_the_others_are_logged(tmp_path):
    good = RecordStore(tmp_path).put(make_record(run_key="1" * 64))
    damaged = good.with_name("0000000000000000.json")
    damaged.write_text("{")
    (told, problem), other = sync("off", tmp_path)
    assert told == damaged
    assert "is not a readable record" in str(problem)
    assert other == (good, None)


def test_runs_of_a_group_lie_below_it_and_below_their_cell(tmp_path):
    store = RecordStore(tmp_path)
    records = [make_record(seed=seed) for seed in (0, 1)]
    paths = [store.put(record) for record in records]
    group = Group(
        name="study <1>", cells={r.run_key: "bits=8" for r in records}, report="studies/one"
    )
    save_group(group, tmp_path)
    report = tmp_path / "studies" / "one" / "study.md"
    report.parent.mkdir(parents=True)
    report.write_text("# found\n")

    worker = TrackingWorker.start(None, tmp_path)
    for path in paths:
        assert worker.log(path, [], 60, ("study <1>", "bits=8")) is None
    assert worker.log_report("study <1>", [report], 60) is None
    worker.close()
    assert worker._process.wait(60) == 0
    assert _tree(tmp_path) == [
        ("bits=8", "study <1>"),
        ("bits=8, seed 0", "bits=8"),
        ("bits=8, seed 1", "bits=8"),
        ("study <1>", None),
    ]
    assert list((tmp_path / "mlartifacts").rglob("study.md"))

    before = _tree(tmp_path)
    (tmp_path / "mlflow.db").unlink()
    assert [warning for _, warning in sync(None, tmp_path)] == [None, None, None]
    assert _tree(tmp_path) == before


def _tree(output: Path) -> list[tuple[str, str | None]]:
    query = (
        "select r.name, p.name from runs r left join tags t on r.run_uuid = t.run_uuid "
        "and t.key = 'mlflow.parentRunId' left join runs p on p.run_uuid = t.value "
        "where r.lifecycle_stage = 'active' order by 1"
    )
    with sqlite3.connect(output / "mlflow.db") as database:
        return database.execute(query).fetchall()


def _write_runs(output: Path):
    folder = output / "one"
    folder.mkdir(parents=True)
    (folder / "predictions.jsonl").write_text("{}\n")
    (folder / "learning_curve.png").write_bytes(b"a figure")
    artifacts = {"predictions": file_artifact(folder / "predictions.jsonl", output)}
    hostile = make_record().metrics.model_dump()
    hostile["test"]["accuracy/what? <script>"] = 0.5
    first = make_record(dataset="<script> $x_2$ %", artifacts=artifacts, metrics=hostile)
    second = make_record(method="lst", seed=1, status="oom", error="no memory", time=None)
    store = RecordStore(output)
    return first, [store.put(first), store.put(second)]


def _contents(output: Path) -> dict[str, list]:
    with sqlite3.connect(output / "mlflow.db") as database:
        return {name: database.execute(query).fetchall() for name, query in TABLES.items()}


def _env() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
