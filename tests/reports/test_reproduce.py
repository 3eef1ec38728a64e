"""The paper's tables: every number printed, every number of ours labelled."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from reproduce_runs import GLUE, HOSTILE, cell, glue_run, shown, sst2

from harness.cards import METHODS
from harness.cli import execute
from harness.errors import UserError
from harness.paper_step import StepRequest, checked_step
from harness.record import Metrics, Record, RecordStore
from harness.reproduction import current, predict_table, table_rows
from harness.testing.records import make_memory, make_provenance, make_record
from reports.published import PUBLISHED_UNIT, TABLES, published_values
from reports.reproduce.layout import table_data, table_markdown, table_shown
from reports.reproduce.places import is_paper_run, place
from reports.reproduce.predictions import (
    FILE,
    Prediction,
    prediction_key,
    read_predictions,
    write_predictions,
)
from reports.reproduce.rows import paper_row, row_amp
from reports.reproduce.selection import setting_name
from reports.reproduce.tables import NOT_PREDICTED, reproduced_table


@pytest.mark.parametrize("name", TABLES)
def test_every_printed_number_has_one_cell_and_without_runs_nothing_beside_it(name: str) -> None:
    data = table_data(reproduced_table(name, [], {}))
    printed = [v for v in published_values() if v.table in TABLES[name]]
    assert sorted(c["printed"] for c in data["cells"]) == sorted(v.printed for v in printed)
    assert {o["kind"] for c in data["cells"] for o in c["ours"]} == {"not yet"}
    assert all(c["ours"] for c in data["cells"])
    assert all(o["value"] is None for c in data["cells"] for o in c["ours"])


def test_the_papers_tables_have_511_numbers() -> None:
    assert sum(len(parts) for parts in TABLES.values()) == 5
    assert len(published_values()) == 511


def test_a_run_at_the_papers_backbone_data_and_split_is_measured() -> None:
    ours = sst2([glue_run(seed=seed, score=0.9 + seed / 100) for seed in (0, 1)])
    assert (ours["kind"], ours["seeds"]) == ("measured", (0, 1))
    assert ours["value"] == pytest.approx(90.5)
    assert ours["deviation"] == pytest.approx(0.7071, abs=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "minilm"},
        {"dataset": "sst2-mini"},
        {"origin": {"rows": {"train": 9, "val": 9, "test": 871}}},
        {"task_config": {"train_rows": 2000}},
        {"task_config": {"splits": "standard"}},
    ],
    ids=str,
)
def test_what_is_not_wholly_the_papers_is_a_stand_in_with_both_names(
    changes: dict[str, Any],
) -> None:
    record = glue_run(**changes)
    ours = sst2([record])
    assert ours["kind"] == "stand-in"
    assert record.dataset in ours["source"]
    assert record.backbone in ours["source"]
    assert ours["in_place_of"] == "SST-2 on T5-base"
    assert not is_paper_run(record)


def test_bundled_data_stand_in_for_their_family_and_say_so() -> None:
    record = glue_run(task="sst2", origin={"source": "bundled"}, backbone="scenes_vl")
    record = record.model_copy(update={"task": "scenes_warmth", "dataset": "scenes-warmth"})
    ours = sst2([record])
    assert ours["kind"] == "stand-in"
    assert "scenes-warmth (bundled data)" in ours["source"]


def test_measured_wins_over_a_stand_in_and_the_nearest_stand_in_over_others() -> None:
    far = glue_run(backbone="minilm", dataset="sst2-mini", score=0.1)
    near = glue_run(backbone="minilm", score=0.2)
    assert sst2([far, near])["value"] == pytest.approx(20)
    assert sst2([far, near, glue_run(score=0.3)])["kind"] == "measured"


@pytest.mark.parametrize(
    "record",
    [
        glue_run(status="oom"),
        glue_run(method="lst"),
        glue_run(task="qnli"),
        glue_run().model_copy(update={"provenance": make_provenance(limited=True)}),
    ],
    ids=["unfinished", "other method", "other task", "limited"],
)
def test_other_rows_columns_and_unfinished_or_limited_runs_do_not_count(record: Record) -> None:
    assert sst2([record])["kind"] == "not yet"


def test_lora_is_measured_with_the_biases_that_its_row_has_and_else_a_stand_in() -> None:
    record = glue_run(method="lora")

    def with_biases(biases: bool) -> Record:
        method = {"name": "lora", "config": {"biases": biases}}
        return record.model_copy(update={"config": record.config | {"method": method}})

    assert sst2([with_biases(True)], "LoRA")["kind"] == "measured"
    other = sst2([with_biases(False)], "LoRA")
    assert other["kind"] == "stand-in"
    assert "another setting" in other["source"]


def test_glue_is_averaged_when_all_eight_tasks_are_measured() -> None:
    runs = [glue_run(task, score=0.8) for task in GLUE]

    def average(records: list[Record]) -> Any:
        return cell("table2", records, method="UniPT", backbone="T5-base", dataset="GLUE-avg")[0]

    assert average(runs)["value"] == pytest.approx(80)
    assert average(runs[1:])["kind"] == "not yet"
    assert average([*runs[1:], glue_run("cola", backbone="minilm")])["kind"] == "not yet"


def test_grounding_validation_is_read_from_the_validation_scores() -> None:
    where = place("RefCOCO", "val", "mAP")
    metrics = Metrics(
        primary="accuracy@0.5",
        direction="max",
        val={"accuracy@0.5": 0.7},
        test={"accuracy@0.5": 0.6},
    )
    assert where is not None
    assert where.score(make_record(metrics=metrics)) == 0.7


def test_scores_that_a_server_keeps_are_never_measured() -> None:
    for split in ("test-dev", "test-std"):
        where = place("VQAv2", split, "accuracy")
        assert where is not None
        assert where.closed
        assert not where.rows


def mp_ismoe_run(preset: str | None, **changes: Any) -> Record:
    card = METHODS.card("mp_ismoe")
    values = dict(card.presets[preset]) if preset else {}
    config = card.config(**values | changes).model_dump(mode="json")
    record = make_record("mp_ismoe", preset=preset)
    method = {"name": "mp_ismoe", "preset": preset, "config": config}
    return record.model_copy(update={"config": record.config | {"method": method}})


@pytest.mark.parametrize(
    ("record", "rows"),
    [
        (mp_ismoe_run(None), {"MP-ISMoE UniPT", "UniPT+GNP-IQ+ISMoE"}),
        (mp_ismoe_run("sherl"), {"MP-ISMoE SHERL"}),
        (mp_ismoe_run("lst"), set()),
        (mp_ismoe_run("gnp_iq"), {"UniPT+GNP-IQ", "Mixed-Pre+GaussianNoise"}),
        (mp_ismoe_run("ismoe"), {"UniPT+ISMoE", "UniPT+MoE+NetworkCorrelation"}),
        (mp_ismoe_run("ismoe", correlation="off"), {"UniPT+MoE"}),
        (mp_ismoe_run("low_pre_no_noise", mixture=False), {"Low-Pre"}),
        (mp_ismoe_run("mixed_pre_no_noise", mixture=False), {"Mixed-Pre"}),
        (mp_ismoe_run("no_noise"), set()),
        (mp_ismoe_run(None, bits=4), set()),
    ],
    ids=lambda value: setting_name(value) if isinstance(value, Record) else "",
)
def test_a_run_belongs_to_the_rows_of_its_components_and_to_no_other(
    record: Record, rows: set[str]
) -> None:
    names = {(v.method, v.host) for v in published_values()}
    taken = {(m, h) for m, h in names if paper_row(m, h).selector.takes(record)}
    shown_names = {f"{m} {h}" if m == "MP-ISMoE" else m for m, h in taken}
    assert shown_names == rows


@pytest.mark.parametrize("name", TABLES)
def test_what_is_predicted_of_a_row_is_a_request_that_can_be_made(name: str) -> None:
    for backbone, row in table_rows(name):
        request = StepRequest(
            row.method, backbone, overrides=row.overrides, amp=row_amp(row, backbone)
        )
        checked_step(request)
        METHODS.choose(row.counted or row.method)


def prediction(nbytes: int = 2 * PUBLISHED_UNIT, **changes: Any) -> Prediction:
    fields: dict[str, Any] = {
        "setting": "unipt@published",
        "revisions": (1, 1),
        "train_peak_bytes": nbytes,
        "inference_peak_bytes": 2**30,
        "trainable": 3_036_290,
        "percent": 1.3623,
    }
    return Prediction(**fields | changes)


def unipt_predicted(**changes: Any) -> dict[str, Prediction]:
    return {prediction_key("t5-base", paper_row("UniPT", "")): prediction(**changes)}


def test_predictions_stand_in_the_printed_unit_in_gib_and_in_percent() -> None:
    fields = {"method": "UniPT", "backbone": "T5-base"}
    known = unipt_predicted()
    [memory] = cell("table2", [], known, metric="memory_train", **fields)
    [test] = cell("table2", [], known, metric="memory_test", **fields)
    [count] = cell("table2", [], known, metric="trainable_params", **fields)
    assert {o["kind"] for o in (memory, test, count)} == {"predicted"}
    assert (memory["value"], memory["nbytes"]) == (2.0, 2 * PUBLISHED_UNIT)
    assert (test["value"], count["value"]) == (1.0, 1.3623)
    text = table_markdown(reproduced_table("table2", [], known))
    assert "2.00 predicted" in text
    assert "1.95 predicted" in text  # GiB
    assert NOT_PREDICTED in text  # of the other rows


def test_a_row_without_a_published_setting_is_predicted_in_ours_and_named() -> None:
    known = unipt_predicted()
    assert "for want of others" not in table_markdown(reproduced_table("table2", [], known))
    own = unipt_predicted(setting="unipt")
    text = table_markdown(reproduced_table("table2", [], own))
    assert "Predicted on T5-base in settings of this package, for want of others: UniPT" in text


def test_a_row_that_cannot_be_predicted_says_why() -> None:
    empty = {"train_peak_bytes": None, "inference_peak_bytes": None, "trainable": None}
    known = {
        key: value.model_copy(update={**empty, "percent": None, "reason": "it has no late block"})
        for key, value in unipt_predicted().items()
    }
    table = reproduced_table("table2", [], known)
    assert "it has no late block" in table_markdown(table)


def test_memory_is_measured_at_the_papers_batch_alone() -> None:
    def kinds(batch_size: int, **changes: Any) -> list[str]:
        record = glue_run(memory=make_memory(), **changes)
        config = record.config | {"train": {"batch_size": batch_size}}
        own = record.model_copy(update={"config": config})
        fields = {"method": "UniPT", "backbone": "T5-base", "metric": "memory_train"}
        return [o["kind"] for o in cell("table2", [own], unipt_predicted(), **fields)]

    assert kinds(100) == ["measured", "predicted"]
    assert kinds(32) == kinds(100, backbone="minilm") == ["predicted"]


def test_predictions_are_kept_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    known = unipt_predicted()
    assert read_predictions(tmp_path) == {}
    write_predictions(tmp_path, known)
    assert read_predictions(tmp_path) == known
    (tmp_path / FILE).write_text('{"predicted": {"x": {"setting": 3}}}')
    with pytest.raises(UserError, match=r"predicted\.json"):
        read_predictions(tmp_path)


def test_a_table_predicts_what_is_missing_or_of_other_code_and_keeps_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def fake(backbone: str, row: Any) -> Prediction:
        asked.append(prediction_key(backbone, row))
        card = METHODS.card(row.method.partition("@")[0])
        return prediction(setting=row.method, revisions=(card.revision, 1))

    kept: list[int] = []
    monkeypatch.setattr("harness.reproduction.predict_row", fake)
    first = predict_table("table3", {}, lambda found: kept.append(len(found)))
    assert kept == list(range(1, len(asked) + 1))
    again = predict_table("table3", first, lambda found: kept.append(len(found)))
    assert (again, len(asked)) == (first, len(table_rows("table3")))
    stale = {k: v.model_copy(update={"revisions": (99, 1)}) for k, v in first.items()}
    assert current(stale) == {}


@pytest.mark.slow
def test_a_predicted_row_counts_what_the_paper_prints(tmp_path: Path) -> None:
    from harness.reproduction import predict_row

    found = predict_row("t5-base", paper_row("BitFit", ""))
    assert found.trainable == 280_932
    assert found.train_peak_bytes > found.inference_peak_bytes > 0  # type: ignore[operator]


def stand_ins() -> Iterator[Record]:
    for method in ("unipt", "lst", "full"):
        yield glue_run(method=method, backbone="minilm", dataset=HOSTILE, score=0.111)


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("name", TABLES)
def test_tables_fit_the_terminal_and_label_every_stand_in(name: str, width: int) -> None:
    table = reproduced_table(name, list(stand_ins()), unipt_predicted())
    text = shown(table_shown(table, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    lines = text.splitlines()
    for line, below in pairwise([*lines, ""]):
        assert line.count("11.1") <= below.count("stand-in 1")


def test_markdown_labels_stand_ins_in_their_cell_and_escapes_names() -> None:
    text = table_markdown(reproduced_table("table2", list(stand_ins()), {}))
    assert text.count("11.1") == text.count("11.1 stand-in 1") > 0
    assert "<b>" not in text
    assert "a|b" not in text


@pytest.fixture
def harness(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str) -> tuple[int, str, str]:
        code = execute(("reproduce", *words))
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["table5"], ["'table5'", "Did you mean"]),
        (["claim"], ["'claim'", "Did you mean 'claims'?"]),
        (["claims", "--predict"], ["--predict", "'claims'"]),
        (["table1", "--format", "html"], ["--format 'html'", "text, md, json"]),
        (
            ["inconsistencies", "--format", "json", "--markdown"],
            ["--format json and --markdown ask for different formats"],
        ),
        (["claims", "--format", "text", "--json"], ["--format text and --json ask for different"]),
    ],
    ids=" ".join,
)
def test_wrong_requests_are_refused_in_one_message(
    words: list[str], expected: list[str], harness: Any
) -> None:
    code, out, err = harness(*words)
    assert (code, out) == (2, "")
    assert all(text in err for text in expected)


@pytest.mark.parametrize("what", ["table1", "table4", "claims", "inconsistencies"])
def test_an_empty_folder_still_gives_one_document(what: str, harness: Any, tmp_path: Path) -> None:
    code, out, err = harness(what, "--output", str(tmp_path), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)
    assert harness(what, "--output", str(tmp_path), "--format", "md")[:1] == (0,)
    assert not list(tmp_path.iterdir())


def test_the_command_reads_the_runs_of_its_folder(harness: Any, tmp_path: Path) -> None:
    record = glue_run()
    RecordStore(tmp_path).put(record.model_copy(update={"run_key": "a" * 64}))
    code, out, _ = harness("table2", "--output", str(tmp_path))
    assert code == 0
    assert "measured 1: sst2, backbone t5-base" in out
    assert NOT_PREDICTED in out


@pytest.mark.parametrize("what", ["table2", "claims"])
def test_a_damaged_record_is_told_and_the_others_are_read(
    what: str, harness: Any, tmp_path: Path
) -> None:
    path = RecordStore(tmp_path).put(glue_run())
    path.with_name("cut.json").write_text("{")
    code, out, err = harness(what, "--output", str(tmp_path), "--json")
    assert code == 0
    assert json.loads(out)
    assert "Left out: " in err
    assert "cut.json is not a readable record" in err


def test_reading_tables_and_claims_needs_no_torch() -> None:
    code = (
        "import sys, reports.reproduce.layout, reports.reproduce.claims_layout, "
        "reports.reproduce.inconsistencies_layout; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
