"""Listing, comparing and removing runs: what is shown, what is removed, and what never is."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from harness import cli
from harness.cleaning import CHECKPOINT
from harness.config import resolve
from harness.errors import UserError
from harness.record import Record, RecordStore
from harness.runner import RunOptions, run
from harness.runs import Filter, by_key, compare_two, row, selected, stored
from harness.testing.records import make_memory, make_provenance, make_record
from harness.testing.runs import interrupt_at, small_request
from reports.run_lists import diff_lines, list_lines
from reports.tables import gib

Call = Callable[..., tuple[int, str, str]]
UNFINISHED = ("cancelled", "failed", "oom", "diverged", "disk_full")


@pytest.fixture
def runs(capsys: pytest.CaptureFixture[str]) -> Call:
    """Call ``harness runs``; return exit code, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        code = cli.execute(["runs", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def started(record: Record, at: str) -> Record:
    origin = record.provenance.model_copy(update={"started_at": at})
    return record.model_copy(update={"provenance": origin})


def keep(output: Path, record: Record, *files: str) -> Path:
    """Store a record with files among its artifacts; return their folder."""
    RecordStore(output).put(record)
    return artifacts(output, record.run_key[:16], *files)


def artifacts(output: Path, name: str, *files: str) -> Path:
    folder = output / "artifacts" / name
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"12345")
    return folder


def everything(output: Path) -> set[Path]:
    return {path.relative_to(output) for path in output.rglob("*")}


def test_runs_are_listed_by_their_start_one_a_line(tmp_path: Path, runs: Call) -> None:
    times = ["2026-03-01T10:00:00+00:00", "2026-01-01T10:00:00+00:00", "2026-02-01T10:00:00+00:00"]
    for seed, at in enumerate(times):
        RecordStore(tmp_path).put(started(make_record(seed=seed, score=0.5), at))
    code, out, err = runs("list", "--output", str(tmp_path))
    assert (code, err) == (0, "")
    lines = out.splitlines()[1:]
    assert [line.split()[-2] for line in lines] == ["2026-01-01", "2026-02-01", "2026-03-01"]
    peak = gib(make_memory().train_peak_bytes)
    assert all(line.split()[-4:-2] == ["50.0", peak] for line in lines)
    document = json.loads(runs("list", "--output", str(tmp_path), "--json")[1])
    assert [row["seed"] for row in document] == [1, 2, 0]
    assert {row["train_peak_bytes"] for row in document} == {make_memory().train_peak_bytes}
    assert {row["score"] for row in document} == {0.5}


def test_what_a_run_lacks_is_left_empty_and_limits_are_named(tmp_path: Path, runs: Call) -> None:
    record = make_record()
    metrics = record.metrics.model_copy(update={"test": {}})
    origin = make_provenance(limited=True)
    changes = {"status": "oom", "metrics": metrics, "memory": None, "provenance": origin}
    RecordStore(tmp_path).put(record.model_copy(update=changes))
    line = runs("list", "--output", str(tmp_path))[1].splitlines()[1]
    assert line.split() == [
        *(record.run_key[:10], "oom", "mp_ismoe", "vqa", "easy-vqa"),
        *("default,", "limited", "0", "2026-01-01", "12:00"),
    ]


def test_filters_hold_together() -> None:
    records = [
        make_record("lst"),
        make_record("lst", preset="official"),
        make_record("unipt", status="oom"),
        make_record("lst", task="gqa"),
    ]
    assert selected(records, Filter()) == records
    assert selected(records, Filter(method="lst")) == [records[0], records[1], records[3]]
    assert selected(records, Filter(method="lst@official")) == [records[1]]
    assert selected(records, Filter(method="lst", task="gqa")) == [records[3]]
    assert selected(records, Filter(status="oom")) == [records[2]]
    assert selected(records, Filter(method="full")) == []


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--method", "lts"), "'lst'"),
        (("--task", "vqq"), "'vqa'"),
        (("--status", "don"), "'done'"),
    ],
)
def test_a_filter_that_names_nothing_is_refused(
    words: tuple[str, str], hint: str, tmp_path: Path, runs: Call
) -> None:
    RecordStore(tmp_path).put(make_record())
    code, out, err = runs("list", "--output", str(tmp_path), *words)
    assert (code, out) == (2, "")
    assert f"'{words[1]}'" in err
    assert hint in err


def test_a_folder_without_records_is_refused(tmp_path: Path, runs: Call) -> None:
    code, out, err = runs("list", "--output", str(tmp_path), "--json")
    assert (code, out) == (2, "")
    assert "no records" in err


def test_a_damaged_record_is_told_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    RecordStore(tmp_path).put(make_record())
    (tmp_path / "records" / "broken.json").write_text("{")
    assert stored(tmp_path) == [make_record()]
    assert "broken.json" in caplog.text


def test_names_cannot_break_a_line() -> None:
    [header, line] = list_lines([row(make_record("a\nb\x1b[31m", dataset="c\td"))])
    assert line.isprintable()
    assert header.startswith("key")


def test_a_record_and_itself_later_are_the_same() -> None:
    one = make_record()
    two = started(one, "2027-01-01T00:00:00+00:00")
    comparison = compare_two(one, two)
    assert comparison.equal_cores
    assert (comparison.parts, comparison.sections) == ((), {})
    assert diff_lines(one, two, comparison)[2:] == [
        "The two Records are the same: their cores are equal."
    ]


def test_only_what_differs_is_shown_with_the_names_of_set() -> None:
    one = make_record()
    config = one.config | {"method": one.config["method"] | {"config": {"bits": 4, "rank": 2}}}
    two = one.model_copy(update={"config": config, "memory": make_memory(2)})
    comparison = compare_two(one, two)
    assert not comparison.equal_cores
    assert comparison.parts == ("config", "memory")
    assert comparison.sections["config"] == {"method.bits": (8, 4), "method.rank": (None, 2)}
    assert set(comparison.sections) == {"config", "memory"}
    text = "\n".join(diff_lines(one, two, comparison))
    assert "method.rank  -  2" in text
    assert "lr" not in text
    assert "memory (GiB)" in text


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=2, max_size=2))
def test_differences_are_the_unequal_values_whichever_comes_first(
    scores: list[tuple[float, float, float]],
) -> None:
    one, two = (_scored(*values) for values in scores)
    there, back = compare_two(one, two), compare_two(two, one)
    for name, differences in there.sections.items():
        assert all(a != b for a, b in differences.values())
        swapped = {key: (b, a) for key, (a, b) in differences.items()}
        assert dict(back.sections[name]) == swapped
    assert there.equal_cores == back.equal_cores == (not there.sections)


def _scored(a: float, b: float, c: float) -> Record:
    record = make_record()
    values = {"vqa_accuracy": a, "accuracy": b}
    metrics = record.metrics.model_copy(update={"test": values, "val": {"vqa_accuracy": c}})
    return record.model_copy(update={"metrics": metrics})


def test_values_that_rounding_makes_equal_are_shown_exactly() -> None:
    one, two = _scored(0.5, 0.5, 0.5), _scored(0.50001, 0.5, 0.5)
    text = "\n".join(diff_lines(one, two, compare_two(one, two)))
    assert "0.5  0.50001" in text


def test_two_output_folders_are_compared_by_file(tmp_path: Path, runs: Call) -> None:
    record = make_record()
    RecordStore(tmp_path / "here").put(record)
    there = RecordStore(tmp_path / "there").put(started(record, "2027-01-01T00:00:00+00:00"))
    words = ("diff", record.run_key[:6], str(there), "--output", str(tmp_path / "here"))
    code, out, _ = runs(*words, "--json")
    assert code == 0
    assert json.loads(out)["equal_cores"]
    code, _, err = runs("diff", record.run_key, "gone.json", "--output", str(tmp_path / "here"))
    assert code == 2
    assert "'gone.json'" in err


def test_rm_says_what_it_would_remove_and_removes_nothing(tmp_path: Path, runs: Call) -> None:
    record = make_record()
    folder = keep(tmp_path, record, "predictions.jsonl", "adaptation/config.json")
    before = everything(tmp_path)
    code, out, _ = runs("rm", record.run_key[:8], "--output", str(tmp_path))
    assert code == 0
    assert everything(tmp_path) == before
    assert str(folder) in out
    assert "--yes" in out
    assert "MLflow" in out


def test_rm_removes_the_named_runs_and_nothing_else(tmp_path: Path, runs: Call) -> None:
    records = [make_record(seed=seed) for seed in range(3)]
    for record in records:
        keep(tmp_path, record, "predictions.jsonl")
    keys = [record.run_key[:10] for record in records[:2]]
    words = ("rm", *keys, keys[0], "--output", str(tmp_path), "--yes", "--json")
    code, out, _ = runs(*words)
    assert code == 0
    document = json.loads(out)
    assert document["removed"]
    assert len(document["items"]) == 4
    assert list(RecordStore(tmp_path)) == [records[2]]
    assert [p.name for p in (tmp_path / "artifacts").iterdir()] == [records[2].run_key[:16]]


@pytest.mark.parametrize("wrong", ["", "zz", "../x"])
def test_rm_removes_nothing_where_one_key_is_wrong(wrong: str, tmp_path: Path, runs: Call) -> None:
    record = make_record()
    keep(tmp_path, record, "predictions.jsonl")
    before = everything(tmp_path)
    code, out, err = runs("rm", record.run_key[:8], wrong, "--output", str(tmp_path), "--yes")
    assert (code, out) == (2, "")
    assert f"'{wrong}'" in err
    assert everything(tmp_path) == before


def test_a_whole_key_must_be_the_runs_to_its_end(tmp_path: Path, runs: Call) -> None:
    record = make_record()
    RecordStore(tmp_path).put(record)
    other = record.run_key[:-1] + ("0" if record.run_key[-1] != "0" else "1")
    assert runs("rm", other, "--output", str(tmp_path), "--yes")[0] == 2
    assert list(RecordStore(tmp_path)) == [record]


@pytest.mark.parametrize("linked", ["artifacts", "artifacts/KEY", "records"])
def test_rm_refuses_to_follow_a_link(linked: str, tmp_path: Path, runs: Call) -> None:
    output, record = tmp_path / "runs", make_record()
    keep(output, record, "predictions.jsonl")
    inside = output / linked.replace("KEY", record.run_key[:16])
    shutil.move(inside, tmp_path / "elsewhere")
    inside.symlink_to(tmp_path / "elsewhere")
    before = everything(tmp_path)
    code, _, err = runs("rm", record.run_key[:8], "--output", str(output), "--yes")
    assert code == 2
    assert str(inside) in err
    assert everything(tmp_path) == before


def test_a_run_at_work_is_not_removed(tmp_path: Path, runs: Call) -> None:
    record = make_record(status="failed")
    folder = keep(tmp_path, record, "predictions.jsonl", f".{CHECKPOINT}.abcd_123")
    orphan = artifacts(tmp_path, "0" * 16, "predictions.jsonl")
    (tmp_path / "locks").mkdir()
    with (
        FileLock(tmp_path / "locks" / f"{folder.name}.lock"),
        FileLock(tmp_path / "locks" / f"{orphan.name}.lock"),
    ):
        before = everything(tmp_path)
        code, _, err = runs("rm", record.run_key[:8], "--output", str(tmp_path), "--yes")
        assert code == 2
        assert "at work" in err
        assert runs("gc", "--output", str(tmp_path), "--yes")[0] == 0
        assert everything(tmp_path) == before
    assert runs("gc", "--output", str(tmp_path), "--yes")[0] == 0
    assert not orphan.exists()
    assert [path.name for path in folder.iterdir()] == ["predictions.jsonl"]


@pytest.mark.parametrize("status", UNFINISHED)
def test_a_checkpoint_that_a_run_can_go_on_from_stays(
    status: str, tmp_path: Path, runs: Call
) -> None:
    folder = keep(tmp_path, make_record(status=status), CHECKPOINT)
    killed = artifacts(tmp_path, "0" * 16, CHECKPOINT)
    assert "nothing" in runs("gc", "--output", str(tmp_path), "--yes")[1]
    assert (folder / CHECKPOINT).exists()
    assert (killed / CHECKPOINT).exists()
    assert runs("gc", "--output", str(tmp_path), "--yes", "--checkpoints")[0] == 0
    assert not (folder / CHECKPOINT).exists()
    assert not killed.exists()


def test_gc_finds_what_no_run_needs_and_keeps_the_rest(tmp_path: Path, runs: Call) -> None:
    done = keep(tmp_path, make_record(), "predictions.jsonl", CHECKPOINT)
    orphan = artifacts(tmp_path, "0" * 16, "adaptation/config.json", "timeline.json")
    features = tmp_path / "features"
    for name in ("a" * 24, f".filling-{'b' * 24}"):
        (features / name).mkdir(parents=True)
        (features / name / "output").write_bytes(b"1234567")
    (features / f".{'a' * 24}.lock").touch()
    written = tmp_path / "records" / f".{done.name}.json.abc_1234"
    written.write_bytes(b"{")
    mine = [tmp_path / "artifacts" / "notes", features / "notes", tmp_path / "notes"]
    for path in mine:
        path.mkdir()
    expected = {
        str(done / CHECKPOINT): 5,
        str(orphan): 10,
        str(features / ("a" * 24)): 7,
        str(features / f".filling-{'b' * 24}"): 7,
        str(written): 1,
    }
    before = everything(tmp_path)
    dry = json.loads(runs("gc", "--output", str(tmp_path), "--json")[1])
    assert {item["path"]: item["bytes"] for item in dry["items"]} == expected
    assert not dry["removed"]
    assert everything(tmp_path) == before
    out = runs("gc", "--output", str(tmp_path), "--yes")[1]
    assert f"({sum(expected.values())} bytes)" in out
    assert not any(Path(path).exists() for path in expected)
    assert (done / "predictions.jsonl").exists()
    assert list(RecordStore(tmp_path)) == [make_record()]
    assert all(path.exists() for path in mine)
    assert json.loads(runs("gc", "--output", str(tmp_path), "--json")[1])["items"] == []


def test_gc_leaves_alone_what_belongs_to_a_damaged_record(tmp_path: Path, runs: Call) -> None:
    folder = keep(tmp_path, make_record(), CHECKPOINT)
    RecordStore(tmp_path).path(folder.name).write_text("{")
    assert runs("gc", "--output", str(tmp_path), "--yes", "--checkpoints")[0] == 0
    assert (folder / CHECKPOINT).exists()


def test_features_that_a_run_is_filling_stay(tmp_path: Path, runs: Call) -> None:
    features = tmp_path / "features"
    entry, filling, abandoned = (
        features / name for name in ("a" * 24, f".filling-{'a' * 24}", f".filling-{'b' * 24}")
    )
    for folder in (entry, filling, abandoned):
        folder.mkdir(parents=True)
    with FileLock(features / f".{entry.name}.lock"):
        runs("gc", "--output", str(tmp_path), "--yes")
        assert entry.exists()
        assert filling.exists()
        assert not abandoned.exists()
    runs("gc", "--output", str(tmp_path), "--yes")
    assert not entry.exists()
    assert not filling.exists()


@pytest.mark.parametrize(
    "linked", ["artifacts", "artifacts/" + "0" * 16, "features", "features/" + "a" * 24, "records"]
)
def test_gc_does_not_follow_links(linked: str, tmp_path: Path, runs: Call) -> None:
    output, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    for name in ("0" * 16, "a" * 24):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "file").touch()
    (elsewhere / ".x.json.abcd1234").touch()
    (output / linked).parent.mkdir(parents=True, exist_ok=True)
    (output / linked).symlink_to(elsewhere)
    before = everything(tmp_path)
    code, out, err = runs("gc", "--output", str(output), "--yes", "--checkpoints")
    assert code == 0
    assert "nothing" in out
    assert str(output / linked) in err
    assert everything(tmp_path) == before


def test_a_link_in_what_is_removed_keeps_its_target(tmp_path: Path, runs: Call) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").touch()
    orphan = artifacts(tmp_path / "runs", "0" * 16, "timeline.json")
    (orphan / "link").symlink_to(target)
    document = json.loads(runs("gc", "--output", str(tmp_path / "runs"), "--yes", "--json")[1])
    assert len(document["items"]) == 1
    assert not orphan.exists()
    assert (target / "file").exists()


def test_what_cannot_be_removed_is_one_message(
    tmp_path: Path, runs: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    orphan = artifacts(tmp_path, "0" * 16, "timeline.json")
    monkeypatch.setattr("shutil.rmtree", refuse)
    code, out, err = runs("gc", "--output", str(tmp_path), "--yes")
    assert (code, out) == (2, "")
    assert f"{orphan} cannot be removed: Permission denied" in err


def test_an_output_that_is_not_there_is_refused(tmp_path: Path, runs: Call) -> None:
    (tmp_path / "runs").mkdir()
    code, out, err = runs("gc", "--output", str(tmp_path / "run"))
    assert (code, out) == (2, "")
    assert "Did you mean 'runs'?" in err


def test_an_interrupted_run_goes_on_after_gc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: Call
) -> None:
    """What a real run leaves behind is known by its names: a checkpoint, and stored features."""
    small = ("train.epochs=2", "memory.profile=false")
    config = resolve(small_request("linear_probe", *small))
    options = RunOptions(output=tmp_path, tracking_uri="off", verbosity=-1)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        assert run(config, options).status == "cancelled"
    removed = json.loads(runs("gc", "--output", str(tmp_path), "--yes", "--json")[1])["items"]
    assert {item["what"] for item in removed} == {"stored features"}
    [checkpoint] = json.loads(runs("gc", "--output", str(tmp_path), "--checkpoints", "--json")[1])[
        "items"
    ]
    assert Path(checkpoint["path"]).name == CHECKPOINT
    resumed = run(config, options)
    assert resumed.status == "done"
    assert [epoch.epoch for epoch in resumed.history] == [1, 2]


def test_any_beginning_of_a_key_names_a_run_but_nothing_does_not(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.put(make_record())
    assert by_key(make_record().run_key, store) == by_key(make_record().run_key[:1], store)
    with pytest.raises(UserError, match="is no key"):
        by_key("", store)
