"""The command line: help, listing, exit codes, and what is imported on the way."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from harness import cli
from harness.cards import BACKBONES, METHODS, TASKS
from harness.commands import run as run_command
from harness.config import RunRequest
from harness.dispatch import Ended
from harness.errors import UserError
from harness.record import Record, content_hash
from harness.run_budget import BudgetRequest, Held
from harness.study import Axis, Cell, Study
from harness.testing.records import make_record

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "numpy", "pandas", "mlflow", "transformers", "timm", "scipy", "matplotlib")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def harness(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process; return exit code, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        code = cli.execute(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def process(*words: str, cwd: Path = ROOT, path: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words, cwd=cwd, env={**os.environ, "PYTHONPATH": str(path)}, capture_output=True, text=True
    )


def verbs() -> list[str]:
    return list(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def test_help_lists_every_verb(harness: Run) -> None:
    code, out, err = harness("--help")
    assert (code, err) == (0, "")
    assert all(f"\n  {verb} " in out for verb in verbs())


def test_nothing_typed_asks_for_help(harness: Run) -> None:
    assert harness() == harness("--help")


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_two_examples_that_parse(verb: str, harness: Run) -> None:
    code, out, _ = harness(verb, "--help")
    examples = out.partition("Examples:\n")[2].strip().splitlines()
    assert code == 0
    assert len(examples) == 2
    command = typer.main.get_command(cli.app).commands[verb]  # type: ignore[attr-defined]
    for example in examples:
        program, typed, *words = shlex.split(example)
        assert (program, typed) == ("harness", verb)
        command.make_context(verb, words)


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["list"], ["show", "mp_ismoe"], ["docs"]]
)
def test_looking_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from harness.cli import execute; code = execute(sys.argv[1:]); "
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = process(sys.executable, "-c", code, *words, cwd=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_list_names_all_that_is_registered(harness: Run) -> None:
    code, out, _ = harness("list", "--json")
    data = json.loads(out)
    assert code == 0
    for kind, registry in (("methods", METHODS), ("tasks", TASKS), ("backbones", BACKBONES)):
        assert [entry["name"] for entry in data[kind]] == registry.names()
    assert list(json.loads(harness("list", "tasks", "--json")[1])) == ["tasks"]
    text = harness("list")[1]
    assert all(name in text for name in METHODS.names())


@pytest.mark.parametrize("name", [*METHODS.names(), *TASKS.names(), *BACKBONES.names()])
def test_show_explains_every_field_of_every_entry(name: str, harness: Run) -> None:
    code, text, _ = harness("show", name)
    [data] = json.loads(harness("show", name, "--json")[1])
    assert code == 0
    assert data["source"]
    for field in data["fields"]:
        assert field["name"] in text
        assert field["type"]
        assert field["description"], f"{name}.{field['name']} is not described"
        assert "default" in field
    for variant in [*data.get("presets", ()), *data.get("recipes", ())]:
        assert variant in text
    assert all(metric in text for metric in data.get("metrics", ()))


def test_show_explains_the_shared_settings(harness: Run) -> None:
    for section in ("train", "features", "memory"):
        [data] = json.loads(harness("show", section, "--json")[1])
        assert all(field["description"] for field in data["fields"])


def test_types_are_written_as_a_reader_says_them(harness: Run) -> None:
    [train] = json.loads(harness("show", "train", "--json")[1])
    fields = {field["name"]: field for field in train["fields"]}
    assert fields["epochs"]["type"] == "int >= 1"
    assert fields["warmup"]["type"] == "float >= 0, < 1"
    assert fields["schedule"]["type"] == "linear | cosine | constant"
    [task] = json.loads(harness("show", "vqa", "--json")[1])
    assert task["fields"][0]["type"] == "int >= 1 or null"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lst"], "Did you mean 'list'?"),
        (["run", "--methd", "lst"], "--method"),
        (["run", "--method", "lst"], "Missing option '--task'"),
        (["run", "--method", "lst", "--task", "vqa", "--seed", "one"], "--seed"),
        (["list", "method"], "Did you mean 'methods'?"),
        (["show", "mp_ismo"], "Did you mean 'mp_ismoe'?"),
        (["show", "vqa@quik"], "Did you mean 'quick'?"),
        (["bench", "lop"], "Did you mean 'loop'?"),
        (["pretrain", "scenes"], "Did you mean 'scenes_vl'?"),
        (["pretrain", "scenes_vl", "--minutes", "1", "--steps", "2"], "give one"),
        (["report", "--output", "nowhere"], "nowhere"),
        (["run", "--method", "lst,unipt", "--task", "vqa"], "'lst,unipt' names 2 methods"),
        (["run", "--method", "lst", "--task", "vqa,vqa@full"], "names 2 tasks"),
        (["run", "--method", "lst", "--task", "vqa", "--seeds", "3;4"], "'3;4'"),
        (["run", "--method", "lst", "--task", "vqa", "--seeds", "3,3"], "different seeds"),
        (["run", "--method", "lst", "--task", "vqa", "--seeds", "0"], "1 or more"),
        (["run", "--method", "lst", "--task", "vqa", "--seeds", "3", "--seed", "1"], "exclude"),
    ],
)
def test_a_wrong_request_is_one_message_and_exit_code_2(
    words: list[str], expected: str, harness: Run
) -> None:
    code, out, err = harness(*words)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert expected in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("typed", "seeds"), [("3", [0, 1, 2]), ("3,7", [3, 7]), ("1", [0]), ("7, 3", [7, 3])]
)
def test_seeds_are_a_count_or_a_list(typed: str, seeds: list[int]) -> None:
    assert run_command.chosen_seeds(None, typed) == seeds


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace ``harness.runner.run`` by one that ends as told; return what it was called with."""
    called: list[Any] = []

    def run(config: Any, options: Any) -> Record:
        called.append(config)
        status = {3: "diverged", 4: "cancelled"}.get(config.seed, "done")
        error = None if status == "done" else "why"
        return make_record(seed=config.seed).model_copy(update={"status": status, "error": error})

    import harness.runner

    monkeypatch.setattr(harness.runner, "run", run)
    return called


def test_json_is_one_document(runs: list[Any], harness: Run) -> None:
    code, out, err = harness("run", "--method", "lst", "--task", "vqa", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["schema"] == 1
    code, out, _ = harness("run", "--method", "lst", "--task", "vqa", "--seeds", "2", "--json")
    assert [record["seed"] for record in json.loads(out)] == [0, 1]
    assert [config.seed for config in runs] == [0, 0, 1]


def test_tables_go_to_stdout(runs: list[Any], harness: Run) -> None:
    code, out, err = harness("run", "--method", "lst", "--task", "vqa", "--seeds", "2")
    assert (code, err) == (0, "")
    assert "seed 0" in out
    assert "seed 1" in out


def test_a_run_that_did_not_end_well_is_exit_code_3(runs: list[Any], harness: Run) -> None:
    code, _, err = harness("run", "--method", "lst", "--task", "vqa", "--seeds", "3,0")
    assert code == 3
    assert "seed 3, ended as diverged: why" in err
    assert [config.seed for config in runs] == [3, 0]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let the runs of comparisons end without being made: of GQA there are no data."""
    called: list[Any] = []

    def run_all(configs: Sequence[Any], *_: Any) -> Iterator[Ended]:
        for job, config in enumerate(configs):
            called.append(config)
            if config.task.name == "gqa":
                yield Ended(job, None, "no data here", 2)
            else:
                key = content_hash(config.resolved())
                yield Ended(job, make_record(config.method.name, config.seed, run_key=key))

    monkeypatch.setattr("harness.matrix.run_all", run_all)
    return called


def test_a_comparison_is_one_run_for_every_cell(
    compared: list[Any], harness: Run, tmp_path: Path
) -> None:
    words = ("--methods", "lst,unipt", "--tasks", "vqa@quick,vqa", "--seeds", "0,1", "--json")
    place = ("--output", str(tmp_path), "--tracking-uri", "off")
    code, out, err = harness("compare", *words, *place)
    assert code == 0
    assert len(json.loads(out)["rows"]) == 2
    assert "[8/8] unipt on vqa, seed 1" in err
    cells = [(config.task.recipe, config.method.name, config.seed) for config in compared]
    assert len(set(cells)) == len(cells) == 8
    (report,) = (tmp_path / "comparisons").glob("*/report.html")
    assert "unipt" in report.read_text()


def test_a_run_counts_once_however_many_rows_of_a_matrix_come_to_it(
    compared: list[Any], harness: Run, tmp_path: Path
) -> None:
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text("rows: [{method: lst}, {method: lst, settings: {train.threads: 2}}]")
    place = ("--output", str(tmp_path / "runs"), "--tracking-uri", "off")
    code, out, _ = harness("compare", "--matrix", str(matrix), "--tasks", "vqa", "--json", *place)
    assert code == 0
    (row,) = json.loads(out)["rows"]
    assert row["seeds"] == [0]


def test_a_comparison_goes_on_where_one_run_cannot(
    compared: list[Any], harness: Run, tmp_path: Path
) -> None:
    place = ("--output", str(tmp_path), "--tracking-uri", "off")
    code, out, err = harness("compare", "--methods", "lst", "--tasks", "gqa,vqa", *place)
    assert code == 2
    assert "Error: lst on gqa, seed 0: no data here" in err
    assert "lst" in out


def test_methods_are_named_once(harness: Run, tmp_path: Path) -> None:
    both = ("--methods", "lst", "--matrix", "m.yaml")
    for words in ((), both):
        code, _, err = harness("compare", "--tasks", "vqa", *words)
        assert code == 2
        assert "Give --methods, or --matrix" in err


def test_a_plan_says_what_is_missing(harness: Run, tmp_path: Path) -> None:
    words = ("--methods", "lst,unipt", "--tasks", "vqa", "--seeds", "2", "--no-predict")
    code, out, _ = harness("plan", *words, "--output", str(tmp_path), "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [(row["method"], row["seed"], row["status"]) for row in rows] == [
        (method, seed, "missing") for method in ("lst", "unipt") for seed in (0, 1)
    ]
    code, out, _ = harness("plan", *words, "--output", str(tmp_path))
    assert "0 of 4 runs are done, 4 to be run" in out


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (("done", "pruned"), 0),
        (("done", "oom"), 3),
        (("done", "failed"), 3),
        (("pruned", "pruned"), 3),
    ],
)
def test_a_run_of_a_study_that_ended_badly_is_exit_code_3(
    statuses: tuple[Any, ...],
    expected: int,
    harness: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = tuple(
        Cell(point={"method.bits": bits}, seed=0, status=status)
        for bits, status in zip((8, 4), statuses, strict=True)
    )

    def run(self: Any) -> Study:
        names = {"method": "mp_ismoe", "task": "vqa", "dataset": "d", "backbone": "b"}
        axes = (Axis(field="method.bits", values=(8, 4)),)
        study = Study(
            schema=1, name="s", recipe="r", axes=axes, sampler="grid", cells=cells, **names
        )
        self.report(study)
        return study

    monkeypatch.setattr("harness.ablate.Ablation.run", run)
    code, out, _ = harness("ablate", "--output", str(tmp_path), "--json")
    assert code == expected
    assert json.loads(out)["name"] == "s"
    written = {path.name for path in (tmp_path / "studies" / "s").iterdir()}
    assert written == {f"study.{form}" for form in ("html", "md", "tex", "csv")}


def test_the_studies_are_listed_as_one_document_too(harness: Run) -> None:
    code, out, err = harness("ablate", "--study", "list", "--json")
    assert (code, err) == (0, "")
    assert "bits-noise-experts" in json.loads(out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--study", "bits-noise-expert"),
            "neither a study nor a file. Did you mean 'bits-noise-experts'?",
        ),
        (("--sampler", "tpee"), "Did you mean 'tpe'?"),
        (("--sampler", "tpe"), "say how many points with --trials"),
        (("--trials", "3"), "a grid runs all of its 24 points"),
        (("--objectives", "speed"), "write score, or score,memory"),
        (("--rerun", "alway"), "Did you mean 'always'?"),
        (("--budget", "2GiBs"), "2GiBs"),
        (("--method", "lst,full"), "names 2 methods"),
        (("--method", "lst"), "Unknown field 'method.bits'"),
        (("--seeds", "0"), "a count is 1 or more"),
        (("--storage", "nowhere"), "--storage nowhere cannot be used"),
    ],
)
def test_a_wrong_study_is_one_message(
    words: tuple[str, ...], message: str, harness: Run, tmp_path: Path
) -> None:
    code, out, err = harness("ablate", *words, "--output", str(tmp_path))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--method", "lst", "--task", "glue"), "harness compare --tasks glue"),
        (("--method", "all", "--task", "vqa"), "harness compare --methods all"),
        (("--method", "lst,full", "--task", "vqa"), "harness compare --methods lst,full"),
    ],
)
def test_a_group_belongs_to_compare(words: tuple[str, ...], expected: str, harness: Run) -> None:
    code, out, err = harness("run", *words)
    assert (code, out) == (2, "")
    assert expected in err


def test_an_interrupt_ends_all_seeds_with_130(runs: list[Any], harness: Run) -> None:
    code, out, err = harness("run", "--method", "lst", "--task", "vqa", "--seeds", "4,5", "--json")
    assert code == 130
    assert "Repeat the command" in err
    assert [record["status"] for record in json.loads(out)] == ["cancelled"]
    assert [config.seed for config in runs] == [4]


def test_a_bug_is_exit_code_1_and_shows_its_place_on_demand(
    harness: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> None:
        raise ZeroDivisionError("seven")

    monkeypatch.setattr("harness.listing.catalogue", broken)
    code, out, err = harness("list")
    assert (code, out) == (1, "")
    assert "ZeroDivisionError: seven" in err
    assert "-v" in err
    assert "Traceback" not in err
    assert "Traceback" in harness("list", "-v")[2]


def test_users_folders_of_the_same_names_do_not_matter(tmp_path: Path) -> None:
    for name in ("methods", "tasks", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    done = process(sys.executable, "-m", "harness", "list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mp_ismoe" in done.stdout


@pytest.mark.parametrize("name", ["methods", "tasks", "reports"])
def test_a_shadowing_file_is_one_clear_message(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text("")
    done = process(sys.executable, "-m", "harness", "list", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(file) in done.stderr
    assert "Rename it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plan_is_held_to_a_budget_as_a_comparison_is(
    harness: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold(request: RunRequest, asked: BudgetRequest) -> Held:
        assert asked == BudgetRequest("2GiB", "auto", of_many=True)
        if request.method != "lst":
            raise UserError("it does not fit")
        return Held(replace(request, overrides=("method.reduction=2",)), 1, 2)

    monkeypatch.setattr("harness.run_budget.hold", hold)
    words = ["--methods", "lst,all", "--tasks", "vqa", "--no-predict", "--output", str(tmp_path)]
    budget = ["--budget", "2GiB", "--fill-budget", "auto"]
    code, out, _ = harness("plan", *words, *budget, "--json")
    document = json.loads(out)
    assert code == 0
    assert [row["label"] for row in document["rows"]] == ["lst"]
    assert document["left_out"]["unipt on vqa"] == "it does not fit"
