"""A matrix of runs: which cells a request stands for, and which of them cannot be."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.cards import METHODS, TASKS, task_groups
from harness.config import RunRequest
from harness.errors import ConfigError, UserError
from harness.matrix_file import read_matrix
from harness.plan import Entry, Plan, make_plan, named_methods
from harness.planned import plan_rows, plan_table
from harness.processor import cpu_name
from harness.record import RecordStore, content_hash
from harness.testing.records import make_provenance, make_record


def plan(methods: str, tasks: str, *seeds: int, **fields: Any) -> Plan:
    return make_plan(
        named_methods(methods), tasks, seeds or (0,), RunRequest(method="", task="", **fields)
    )


def cells(made: Plan) -> list[tuple[str, str, int]]:
    return [(c.task.name, c.method.label, c.seed) for c in made.configs]


def test_cells_come_task_by_task_method_by_method_seed_by_seed() -> None:
    made = plan("lst,mp_ismoe@lst", "vqa,gqa", 0, 3)
    assert cells(made) == [
        (task, method, seed)
        for task in ("vqa", "gqa")
        for method in ("lst", "mp_ismoe@lst")
        for seed in (0, 3)
    ]
    assert not made.left_out


def test_a_group_stands_for_its_tasks_and_a_recipe_for_each() -> None:
    made = plan("lst", "vl@quick,vqa@quick")
    assert [c.task.name for c in made.configs] == list(task_groups()["vl"])
    assert {c.task.recipe for c in made.configs} == {"quick"}


def test_every_task_is_of_the_group_of_all() -> None:
    assert list(task_groups()["all"]) == TASKS.names()
    assert len(task_groups()["glue"]) == 8


def test_what_only_a_group_names_is_left_out_where_it_cannot_run() -> None:
    made = plan("all", "image_classification")
    left_out = {pair.partition(" on ")[0] for pair in made.left_out}
    assert left_out == {"prompt"}
    assert {c.method.name for c in made.configs} | left_out == set(METHODS.names())
    assert all(made.left_out.values())


def test_what_is_named_must_run_and_all_problems_are_told_at_once() -> None:
    with pytest.raises(UserError, match="3 problems") as caught:
        plan("lsst,prompt,lst", "image_classification,glu")
    assert "'lsst'" in str(caught.value)
    assert "prompt" in str(caught.value)
    assert "'glu' is neither a task nor a group of tasks. Did you mean 'glue'?" in str(caught.value)


def test_nothing_is_tuned_before_every_named_pair_is_known_to_run() -> None:
    held: list[str] = []

    def hold(request: RunRequest) -> RunRequest:
        held.append(request.method)
        return request

    request = RunRequest(method="", task="")
    with pytest.raises(UserError, match="'lsst'"):
        make_plan(named_methods("lst,lsst"), "vqa", (0,), request, hold)
    with pytest.raises(UserError, match="seed"):
        make_plan(named_methods("lst"), "vqa", (0, -1), request, hold)
    assert held == []
    make_plan(named_methods("lst,unipt"), "vqa", (0,), request, hold)
    assert held == ["lst", "unipt"]


@pytest.mark.parametrize(
    ("methods", "tasks", "message"),
    [
        ("lst,lts", "vl", "^Unknown method 'lts'. Did you mean 'lst'"),
        ("lst,lst@nope", "vl", "^Unknown preset 'nope'"),
        ("all", "vqa,vqaa", "^'vqaa' is neither a task nor a group"),
    ],
)
def test_a_name_that_there_is_not_is_refused_beside_a_group_too(
    methods: str, tasks: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan(methods, tasks)


def test_a_folder_that_is_needed_is_asked_for_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^Dataset 'sst2' is read from a folder: give --data-dir"):
        plan("lst", "vqa,sst2")
    with pytest.raises(UserError, match=r"^--data-dir .*gone: there is no such folder"):
        plan("lst", "vqa,sst2", data_dir=tmp_path / "gone")
    (made,) = plan("lst", "sst2", data_dir=Path("hub:nyu-mll/glue@0123")).configs
    assert str(made.task.data_dir) == "hub:nyu-mll/glue@0123"


def test_of_a_group_what_needs_a_folder_is_left_out_with_that_reason() -> None:
    made = plan("lst", "vqa,all")
    assert "vqa" in {c.task.name for c in made.configs}
    assert "give --data-dir DIR" in made.left_out["lst on sst2"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [("glu", "'glu' is neither a task nor a group.*glue"), ("vqa,,gqa", "'vqa,,gqa': write names")],
)
def test_a_wrong_name_is_quoted_with_the_nearest(tasks: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan("lst", tasks)


def test_one_folder_may_hold_the_folders_of_several_datasets(tmp_path: Path) -> None:
    for name in ("SST-2", "stsb"):
        (tmp_path / name).mkdir()
    made = plan("lst", "sst2,stsb,cola", data_dir=tmp_path)
    folders = {c.task.name: c.task.data_dir for c in made.configs}
    assert folders == {"sst2": tmp_path / "SST-2", "stsb": tmp_path / "stsb", "cola": tmp_path}


def test_a_file_gives_methods_with_settings_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(
        "rows:\n  - method: lst\n  - method: mp_ismoe@gnp_iq\n"
        "    settings: {method.bits: null, method.noise: none, method.embedding_bits: 8}\n"
    )
    entries = read_matrix(path)
    made = make_plan(entries, "vqa", (0,), RunRequest(method="", task=""))
    assert [config.method.label for config in made.configs] == ["lst", "mp_ismoe@gnp_iq"]
    assert made.configs[1].method.config.model_dump()["bits"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rows: []", "it must hold at least one row. Write rows, such as"),
        ("[1]", "it must hold at least one row. Write rows, such as"),
        ("rows: [lst]", "row 1: a row must have a method. Write rows, such as"),
        ("rows: [{method: lst}, {}]", "row 2: 'method' must be the name of one. Write rows"),
        ("rows: [{method: lst, seting: {}}]", "row 1: unknown field 'seting'. Did you mean"),
        ("row: [{method: lst}]", "unknown field 'row'. Did you mean 'rows'?"),
        ("rows: [{method: lst, settings: 3}]", "row 1: 'settings' must be SECTION.FIELD: VALUE"),
        (
            "rows: [{method: lst, settings: {train.lr: [1, 2]}}]",
            "row 1: 'settings' must be SECTION.FIELD: VALUE",
        ),
        (
            "rows: [{method: lst}, {method: unipt}, {method: lst, settings: {}}]",
            "row 3 (lst) has the method and the settings of row 1",
        ),
    ],
)
def test_a_file_that_is_no_matrix_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"--matrix .*: {re.escape(message)}") as caught:
        read_matrix(path)
    assert "Input should" not in str(caught.value)


def test_what_is_wrong_with_a_row_names_file_and_row_and_what_all_share_does_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text("rows: [{method: lst, settings: {reduction: 4}}, {method: lts}]")
    with pytest.raises(UserError, match="3 problems") as caught:
        make_plan(read_matrix(path), "vqa", (0,), RunRequest(method="", task="", device="gpu"))
    assert isinstance(caught.value, ConfigError)
    shared, setting, name = caught.value.problems
    assert shared.startswith("--device 'gpu'")
    assert setting.startswith(f"--matrix {path}: row 1 (lst): 'reduction' names no setting")
    assert name.startswith(f"--matrix {path}: row 2 (lts): Unknown method 'lts'")


def test_rows_of_a_matrix_are_told_apart(tmp_path: Path) -> None:
    rows = [Entry("lst"), Entry("lst", overrides=("method.reduction=4",))]
    planned = make_plan(rows, "vqa", (0,), RunRequest(method="", task=""))
    shown = plan_rows(planned, tmp_path, predict=False)
    assert [row["label"] for row in shown] == ["lst", "lst (method.reduction=4)"]
    assert {row["method"] for row in shown} == {"lst"}
    console = Console(record=True, width=120, file=StringIO())
    console.print(plan_table([{**row, "note": "no data"} for row in shown], {}))
    text = console.export_text()
    assert "lst on vqa, seed 0: no data" in text
    assert "lst (method.reduction=4) on vqa, seed 0: no data" in text


def test_the_wrong_setting_of_a_row_is_told_as_any_other() -> None:
    rows = [Entry("lst", overrides=("method.reductoin=4",))]
    with pytest.raises(UserError, match="Did you mean 'reduction'"):
        make_plan(rows, "vqa", (0,), RunRequest(method="", task=""))


def keep(output: Path, planned: Plan, seconds: float) -> None:
    """Keep records of a plan's runs that took so long."""
    origin = make_provenance().model_copy(update={"device": cpu_name()})
    time = make_record().time
    assert time
    for config in planned.configs:
        changes = {
            "run_key": content_hash(config.resolved()),
            "config": config.resolved(),
            "time": time.model_copy(update={"total_seconds": seconds}),
            "provenance": origin,
        }
        RecordStore(output).put(make_record(config.method.name, config.seed, **changes))


def test_the_time_of_a_run_is_that_of_its_other_seeds_in_the_folder(tmp_path: Path) -> None:
    keep(tmp_path, plan("lst", "vqa", 5, device="cpu"), seconds=10)
    keep(tmp_path, plan("lst", "vqa", 6, device="cpu"), seconds=30)
    keep(tmp_path, plan("lst", "vqa", 7, device="cpu", overrides=("train.epochs=99",)), 1000)
    rows = plan_rows(plan("lst,unipt", "vqa", 0, 5, device="cpu"), tmp_path, predict=False)
    told = [(row["method"], row["seed"], row["status"], row["seconds"]) for row in rows]
    assert told == [
        ("lst", 0, "missing", 20),
        ("lst", 5, "done", 10),
        ("unipt", 0, "missing", None),
        ("unipt", 5, "missing", None),
    ]


def test_a_plan_for_a_gpu_takes_no_run_of_this_processor_for_done(tmp_path: Path) -> None:
    keep(tmp_path, plan("lst", "vqa", device="cpu"), seconds=10)
    (row,) = plan_rows(plan("lst", "vqa", device="cuda"), tmp_path, predict=False)
    assert row["status"] == "missing"
