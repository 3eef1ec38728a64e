"""What is shipped: the README's commands, the checks, and the wheel."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "methods", "reports", "tasks")
IGNORED = ("__pycache__", ".pyc")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(text: str = README) -> list[str]:
    """Return the shell blocks of a page, by default of the README."""
    return re.findall(r"```bash\n(.*?)\n```", text, flags=re.DOTALL)


def test_the_readme_opens_with_two_one_line_commands() -> None:
    job, tests = commands()[:2]
    assert "\n" not in job + tests
    assert job.endswith("harness run --method mp_ismoe --task vqa")
    assert tests.endswith("python -m pytest")
    assert README.index(tests) < README.index("\n## ")


def test_ci_runs_the_readmes_test_command_exactly() -> None:
    script = ROOT / ".ci" / "run"
    assert commands()[1] in script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)


def written_entry(parent: Path, name: str, modules: Mapping[str, str]) -> Path:
    """Write the modules of a registry's entry to ``parent/name`` and return ``parent``."""
    folder = parent / name
    folder.mkdir(parents=True)
    for module, code in modules.items():
        (folder / f"{module}.py").write_text(code)
    return parent


def test_the_readmes_example_method_works(tmp_path: Path) -> None:
    section = README[README.index("\n## Add a method") :]
    card, code = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    parent = written_entry(tmp_path / "methods", "late_scale", {"__init__": card, "model": code})
    script = (
        "import sys, methods; methods.__path__.append(sys.argv[1])\n"
        "from harness.testing.methods import ProbedModel, build_method, train_steps\n"
        "from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs\n"
        "model = ProbedModel(build_method('late_scale'))\n"
        "train_steps(model, tiny_inputs(TinyBackbone.build(TinyConfig())))\n"
    )
    words = [sys.executable, "-c", script, str(parent)]
    subprocess.run(words, cwd=ROOT, check=True)


def test_the_projects_metadata_name_files_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in (project["readme"], *project["license-files"], "CHANGELOG.md"):
        assert (ROOT / name).is_file()
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what an installed wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*words, str(ROOT)], check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_the_wheel_holds_exactly_the_packages_with_their_data(installed: Path) -> None:
    shipped = {p.relative_to(installed) for p in installed.rglob("*") if p.is_file()}
    info = {path for path in shipped if path.parts[0].endswith(".dist-info")}
    source = {
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not any(part.endswith(IGNORED) for part in path.parts)
    }
    assert shipped - info == source
    assert {"METADATA", "LICENSE", "entry_points.txt"} <= {path.name for path in info}
    assert any(path.suffix == ".safetensors" for path in shipped)


@pytest.mark.slow
def test_the_job_runs_from_an_installed_wheel_in_another_folder(
    installed: Path, tmp_path: Path
) -> None:
    job = ["run", "--method", "mp_ismoe", "--task", "vqa", "--json"]
    small = ["--limit", "64", "--set", "train.epochs=1"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness", *job, *small],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '"status": "done"' in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
