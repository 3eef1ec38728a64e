"""The Python functions: as light to import, and as exact, as the command line."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness import api, cli
from harness.config import RunConfig
from harness.errors import ConfigError, UserError
from harness.matrix import Made
from harness.record import Record, RecordStore
from harness.run_options import RunOptions
from harness.testing.records import make_record
from harness.testing.small import SMALL_BACKBONES

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = ("compare", "frame", "load_records", "records", "run")
Called = list[tuple[RunConfig, RunOptions]]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """Replace a run by one that ends as its seed says; return what it was called with."""
    calls: Called = []

    def run(config: RunConfig, options: RunOptions) -> Record:
        calls.append((config, options))
        if config.task.name == "gqa":
            raise UserError("no data here")
        status = {3: "diverged", 4: "cancelled"}.get(config.seed, "done")
        record = make_record(config.method.name, config.seed, task=config.task.name)
        return record.model_copy(update={"status": status})

    monkeypatch.setattr("harness.runner.run", run)
    return calls


def python(code: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_loads_nothing_but_itself() -> None:
    heavy = "('torch', 'numpy', 'pandas', 'pydantic', 'yaml', 'harness.api')"
    assert python(f"import sys, harness; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_records_are_read_without_torch(tmp_path: Path) -> None:
    RecordStore(tmp_path).put(make_record())
    code = (
        f"import sys, harness; print(len(harness.records({str(tmp_path)!r})), "
        f"len(harness.load_records({str(tmp_path)!r})), 'torch' in sys.modules)"
    )
    assert python(code) == "1 1 False"


def test_the_functions_stay_what_they_are_whatever_is_imported() -> None:
    code = (
        "import harness; before = harness.run, harness.compare; "
        "import harness.runner, harness.runs, harness.commands.run, harness.commands.compare; "
        "from harness import run, compare; "
        "print(before == (run, compare) == (harness.run, harness.compare), callable(run))"
    )
    assert python(code) == "True True"


def test_every_function_is_offered_explained_and_typed() -> None:
    assert {*FUNCTIONS, "__version__"} == set(harness.__all__) <= set(dir(harness))
    for name in FUNCTIONS:
        function = getattr(harness, name)
        assert function is getattr(api, name)
        assert ">>> import harness" in inspect.getdoc(function)
        assert "return" in function.__annotations__
    for name in api.Settings.__annotations__:
        assert f"{name}:" in str(inspect.getdoc(api.Settings))
    assert (Path(str(harness.__file__)).parent / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        harness.rum  # noqa: B018
    assert importlib.import_module("harness.flat")


def test_a_call_is_the_command(called: Called, tmp_path: Path) -> None:
    """The same words, typed in either language, give the same configuration."""
    file = tmp_path / "settings.yaml"
    file.write_text("train: {weight_decay: 0.1}")
    words = ["--method", "lora", "--task", "vqa@quick", "--seed", "5", "--device", "cpu"]
    words += ["--set", "method.rank=4", "--set", "train.lr=2e-3", "--set", "features.enabled=false"]
    words += ["--config", str(file), "--limit", "9", "--amp", "bf16", "--dataset", "scenes-vqa"]
    words += ["--weights", "random", "--grad-checkpoint", "--output", str(tmp_path)]
    assert cli.execute(["run", *words, "--quiet", "--tracking-uri", "off"]) == 0
    harness.run(
        method="lora",
        task="vqa@quick",
        seed=5,
        device="cpu",
        overrides={"method": {"rank": 4}, "train.lr": 2e-3, "features.enabled": False},
        config=file,
        limit=9,
        amp="bf16",
        dataset="scenes-vqa",
        weights="random",
        grad_checkpoint=True,
        output=str(tmp_path),
        verbosity=-1,
    )
    [command, call] = called
    assert call == command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "lts"}, ()),
        ({"task": "glue"}, ()),
        ({"method": "lst,unipt"}, ()),
        ({"seed": -1}, ()),
        ({"device": "gpu"}, ()),
        ({"rerun": "sometimes"}, None),
        (
            {"overrides": {"method.bit": 4, "tran.lr": 1}},
            ("--set", "method.bit=4", "--set", "tran.lr=1"),
        ),
        ({"fill_budget": "experts"}, ()),
    ],
)
def test_mistakes_have_the_messages_of_the_command_line(
    arguments: dict[str, Any],
    words: tuple[str, ...] | None,
    called: Called,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: dict[str, Any] = {"method": "lst", "task": "vqa"} | arguments
    with pytest.raises(UserError) as caught:
        harness.run(**asked)
    if words is not None:
        typed = [(f"--{k.replace('_', '-')}", str(v)) for k, v in asked.items() if k != "overrides"]
        command = ["run", *(word for pair in typed for word in pair), *words]
        assert cli.execute(command) == 2
        assert capsys.readouterr().err == f"Error: {caught.value}\n"
    assert called == []


def test_an_argument_that_there_is_not_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"run\(\) has no argument 'ouput'. Did you mean 'output'"):
        harness.run(method="lst", task="vqa", ouput="x")  # type: ignore[call-arg]


@pytest.mark.parametrize("overrides", [["method.bits=4"], "method.bits=4"])
def test_overrides_are_a_mapping(overrides: Any) -> None:
    with pytest.raises(UserError, match="write a mapping"):
        harness.run(method="lst", task="vqa", overrides=overrides)


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("method", ["lst"], "write a text."),
        ("seed", "a", "write a whole number."),
        ("seed", True, "write a whole number."),
        ("limit", "x", "write a whole number or None."),
        ("budget", 5, "write a text or None."),
        ("data_dir", 3, "write a text, a path or None."),
        ("grad_checkpoint", 1, "write True or False or None."),
        ("output", None, "write a text or a path."),
    ],
)
def test_an_argument_of_a_wrong_type_is_named_with_the_rule(
    argument: str, value: Any, rule: str, called: Called
) -> None:
    with pytest.raises(UserError) as caught:
        harness.run(**({"method": "lst", "task": "vqa"} | {argument: value}))
    assert str(caught.value) == f"{argument}={value!r}: {rule}"
    assert called == []


def test_all_arguments_of_a_wrong_type_are_told_at_once() -> None:
    with pytest.raises(UserError, match="4 problems") as caught:
        harness.compare(["lst", 3], "vqa", seeds="x", workers=True, limit=1.5)  # type: ignore[list-item,arg-type]
    for text in ("methods=['lst', 3]: write a text or a list of texts.", "seeds='x': write a"):
        assert text in str(caught.value)
    with pytest.raises(UserError, match="output=5: write a text or a path"):
        harness.records(5)  # type: ignore[arg-type]


def test_whole_numbers_of_numpy_are_whole_numbers(called: Called) -> None:
    harness.compare("lst", "vqa", seeds=np.arange(2), limit=np.int64(9))  # type: ignore[arg-type]
    harness.run(method="lst", task="vqa", seed=np.int64(5))  # type: ignore[arg-type]
    assert [(config.seed, config.limit) for config, _ in called] == [(0, 9), (1, 9), (5, None)]


def test_a_value_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"'train.lr' is <object"):
        harness.run(method="lst", task="vqa", overrides={"train.lr": object()})


@given(lr=st.floats(1e-30, 1e30), steps=st.integers(1, 10**9), on=st.booleans())
def test_numbers_arrive_exactly(lr: float, steps: int, on: bool) -> None:
    from harness.config import RunRequest, resolve

    values = {"train": {"lr": np.float64(lr), "epochs": np.int64(steps)}, "features.enabled": on}
    texts = api._overrides(values)
    config = resolve(RunRequest(method="lst", task="vqa", overrides=texts))
    assert (config.train.lr, config.train.epochs, config.features.enabled) == (lr, steps, on)


def test_an_interrupted_run_interrupts_the_caller(called: Called) -> None:
    with pytest.raises(KeyboardInterrupt):
        harness.run(method="lst", task="vqa", seed=4)


def test_a_run_that_ended_badly_is_an_outcome(called: Called) -> None:
    assert harness.run(method="lst", task="vqa", seed=3).status == "diverged"


@pytest.mark.parametrize(
    ("methods", "tasks", "seeds"),
    [("lst,unipt", "vqa", 2), (["lst", "unipt"], ["vqa"], [0, 1]), ("lst, unipt", ["vqa"], (0, 1))],
)
def test_a_comparison_is_one_run_for_every_cell(
    methods: Any, tasks: Any, seeds: Any, called: Called
) -> None:
    records = harness.compare(methods, tasks, seeds=seeds)
    cells = [(record.method, record.seed) for record in records]
    assert cells == [("lst", 0), ("lst", 1), ("unipt", 0), ("unipt", 1)]
    assert list(harness.frame(records)["seed"]) == [0, 1, 0, 1]
    assert {options.tracking_uri for _, options in called} == {"off"}


@pytest.mark.parametrize("seeds", [0, -1, [], [1, 1]])
def test_seeds_are_a_count_or_different_ones(seeds: Any) -> None:
    with pytest.raises(UserError, match="seeds="):
        harness.compare("lst", "vqa", seeds=seeds)


def test_a_comparison_goes_on_where_one_run_cannot(called: Called) -> None:
    with pytest.raises(ConfigError, match="lst on gqa, seed 0: no data here"):
        harness.compare("lst", ["gqa", "vqa"])
    assert [config.task.name for config, _ in called] == ["gqa", "vqa"]


def test_an_interrupt_ends_a_comparison(called: Called) -> None:
    with pytest.raises(KeyboardInterrupt):
        harness.compare("lst", "vqa", seeds=[4, 5])
    assert [config.seed for config, _ in called] == [4]


@pytest.mark.parametrize("status", ["cancelled", "done"])
def test_several_workers_end_as_one_does(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_matrix(configs: Any, workers: int, *_: Any) -> list[Made]:
        assert workers == 2
        return [Made(one, make_record(seed=one.seed, status=status)) for one in configs]

    monkeypatch.setattr("harness.matrix.run_matrix", run_matrix)
    if status == "done":
        records = harness.compare("lst", "vqa", seeds=[7, 8], workers=2)
        assert [record.seed for record in records] == [7, 8]
        return
    with pytest.raises(KeyboardInterrupt):
        harness.compare("lst", "vqa", seeds=[7, 8], workers=2)


def test_what_a_group_cannot_run_is_told(called: Called, caplog: pytest.LogCaptureFixture) -> None:
    records = harness.compare("all", "vqa", overrides={"method.rank": 4})
    assert "lora" in {record.method for record in records}
    assert "Left out: lst on vqa: " in caplog.text


def test_records_come_sorted_by_start(tmp_path: Path) -> None:
    for seed, at in enumerate(["2026-03-01T10:00:00+00:00", "2026-01-01T10:00:00+00:00"]):
        record = make_record(seed=seed)
        origin = record.provenance.model_copy(update={"started_at": at})
        RecordStore(tmp_path).put(record.model_copy(update={"provenance": origin}))
    assert [record.seed for record in harness.records(tmp_path)] == [1, 0]
    assert list(harness.load_records(str(tmp_path))["seed"]) == [1, 0]
    with pytest.raises(UserError, match="no records"):
        harness.load_records(tmp_path / "gone")


@pytest.mark.parametrize("name", ["methods", "tasks", "reports"])
def test_a_shadowing_file_is_one_clear_message(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("")
    code = (
        "import sys; sys.path.insert(0, '.'); import harness\n"
        "try: harness.run(method='lst', task='vqa')\n"
        "except harness.errors.UserError as error: print(error)"
    )
    assert f"{name}.py hides the package '{name}'" in python(code, tmp_path)


def test_a_real_run_is_kept_and_found_again(tmp_path: Path) -> None:
    def call() -> Record:
        return harness.run(
            method="linear_probe",
            task="vqa",
            weights="random",
            limit=32,
            overrides={
                "backbone": SMALL_BACKBONES["scenes_vl"],
                "train": {"threads": 1, "batch_size": 16, "epochs": 1},
                "memory.profile": False,
            },
            output=tmp_path,
            verbosity=-1,
        )

    record = call()
    assert record.status == "done"
    assert harness.records(tmp_path) == [record]
    [score] = harness.load_records(tmp_path)["score"]
    assert score == record.metrics.test[record.metrics.primary]
    assert call() == record
