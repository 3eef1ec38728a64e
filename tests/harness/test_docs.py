"""The written documentation: its commands parse, its links lead somewhere, its notebook runs."""

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from test_packaging import README, ROOT, commands, written_entry

import harness
from harness import cli
from harness.api import Settings
from harness.cards import BACKBONES, METHODS, TASKS
from harness.config import RunConfig, RunRequest
from harness.matrix_file import read_matrix
from harness.plan import make_plan
from harness.record import Record, RecordStore
from harness.run_options import RunOptions
from harness.testing.records import make_record

DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
WRITTEN = {"README.md": README, **PAGES}
Cell = dict[str, Any]


def command_lines(text: str) -> list[list[str]]:
    """Return the words behind ``harness`` of every command in a page's shell blocks."""
    lines = [line for block in commands(text) for line in block.splitlines()]
    found = [re.match(r"(?:\S*/)?harness (.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def parse(words: Sequence[str]) -> None:
    """Parse a command as far as its options go, without the shell's variables; nothing is run."""
    command: Any = typer.main.get_command(cli.app)
    name, rest = "harness", [word for word in words if not word.startswith("$")]
    while hasattr(command, "commands"):
        name = rest.pop(0)
        command = command.commands[name]
    redirected = rest.index(">") if ">" in rest else len(rest)
    command.make_context(name, rest[:redirected])


def cells(notebook: Path) -> list[Cell]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def code(notebook: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "code"]


def calls(notebook: Path) -> list[ast.Call]:
    """Return the calls of functions of ``harness``."""
    nodes = [node for text in code(notebook) for node in ast.walk(ast.parse(text))]
    return [n for n in nodes if isinstance(n, ast.Call) and of_harness(n.func)]


def of_harness(node: ast.AST) -> bool:
    owner = node.value if isinstance(node, ast.Attribute) else None
    return isinstance(owner, ast.Name) and owner.id == "harness"


@pytest.mark.parametrize(
    "page", ["README.md", "protocol.md", "memory.md", "bench.md", "extending.md"]
)
def test_a_page_has_commands(page: str) -> None:
    assert command_lines(WRITTEN[page])


def test_there_is_a_notebook_of_the_python_functions() -> None:
    assert DOCS / "api.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("page", WRITTEN)
def test_every_command_parses(page: str) -> None:
    for words in command_lines(WRITTEN[page]):
        parse(words)


@pytest.mark.parametrize("page", WRITTEN)
def test_every_link_to_a_file_leads_to_one(page: str) -> None:
    folder = ROOT if page == "README.md" else DOCS
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", WRITTEN[page])
    assert [link for link in links if not (folder / link).exists()] == []


def test_the_protocols_matrix_can_be_run(tmp_path: Path) -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", PAGES["protocol.md"], flags=re.DOTALL)
    file = tmp_path / "matrix.yaml"
    file.write_text(text)
    plan = make_plan(read_matrix(file), "vqa", [0], RunRequest(method="", task=""))
    assert len(plan.configs) == 3


def test_the_task_of_the_page_about_extending_runs(tmp_path: Path) -> None:
    """Its own files, from the card to a Record, and under the suite that the page names."""
    card, code, suite = re.findall(r"```python\n(.*?)```", PAGES["extending.md"], flags=re.DOTALL)
    parent = written_entry(tmp_path / "tasks", "first_colour", {"__init__": card, "task": code})
    (tmp_path / "test_first_colour.py").write_text(suite)
    script = (
        "import sys, pytest, tasks; tasks.__path__.append(sys.argv[1])\n"
        "from harness.run_options import RunOptions\n"
        "from harness.config import resolve\n"
        "from harness.runner import run\n"
        "from harness.testing.runs import small_request\n"
        "few = small_request('linear_probe', 'train.epochs=1', task='first_colour', limit=24)\n"
        "from pathlib import Path\n"
        "record = run(resolve(few), RunOptions(Path(sys.argv[2]), 'off', -1))\n"
        "assert record.status == 'done', record.error\n"
        "assert set(record.metrics.test) == {'accuracy'}\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', sys.argv[3]]))\n"
    )
    places = [parent, tmp_path / "runs", tmp_path / "test_first_colour.py"]
    words = [sys.executable, "-c", script, *map(str, places)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_entry_points_of_the_page_are_those_that_are_looked_for() -> None:
    [text] = re.findall(r"```toml\n(.*?)```", PAGES["extending.md"], flags=re.DOTALL)
    groups = tomllib.loads(text)["project"]["entry-points"]
    assert {METHODS.group, TASKS.group} == set(groups)
    assert f"`{BACKBONES.group}`" in PAGES["extending.md"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_one_of_format_4_without_outputs(notebook: Path) -> None:
    document = json.loads(notebook.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert document["metadata"]["kernelspec"]["name"] == "python3"
    held = cells(notebook)
    assert len({cell["id"] for cell in held}) == len(held)
    for cell in held:
        usual = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            usual |= {"outputs", "execution_count"}
        assert set(cell) == usual


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_uses_what_there_is(notebook: Path) -> None:
    for call in calls(notebook):
        assert isinstance(call.func, ast.Attribute)
        assert call.func.attr in harness.__all__
        named = {word.arg for word in call.keywords}
        function = getattr(harness, call.func.attr)
        assert named <= {*function.__annotations__, *Settings.__annotations__}
    assert {call.func.attr for call in calls(notebook) if isinstance(call.func, ast.Attribute)} >= {
        "run",
        "compare",
        "load_records",
    }


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, with runs that end at once and a display that shows nothing."""

    def run(config: RunConfig, options: RunOptions) -> Record:
        score = {"lst": 0.7, "unipt": 0.8}.get(config.method.name, 0.5) + 0.01 * config.seed
        record = make_record(config.method.name, config.seed, score, recipe=config.task.recipe)
        RecordStore(options.output).put(record)
        return record

    shown = ModuleType("IPython.display")
    shown.Image = shown.Markdown = lambda *_, **__: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    monkeypatch.setattr("harness.runner.run", run)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for text in code(DOCS / "api.ipynb"):
        exec(compile(text, "api.ipynb", "exec"), names)
    assert len(names["records"]) == 12
    assert names["table"]["seeds"].to_list() == [3, 3, 3, 3]
    assert Path("memory.pdf").read_bytes().startswith(b"%PDF")
