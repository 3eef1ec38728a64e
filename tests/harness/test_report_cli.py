"""``harness report`` and ``harness plot``: formats, files, and records that cannot be read."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness import cli
from harness.record import RecordStore
from harness.study import save_study
from harness.testing.records import make_memory, make_record
from harness.testing.studies import make_study
from reports import plots

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def harness(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process; return exit code, stdout and stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        code = cli.execute([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output folder with three methods' runs."""
    folder = tmp_path / "runs"
    for method, score in {"full": 0.95, "lst": 0.7, "mp_ismoe": 0.9}.items():
        RecordStore(folder).put(make_record(method, score=score))
    return folder


def damage(output: Path) -> dict[str, str]:
    """Add files that are no records; return by name what a message must say of each."""
    good = json.loads(make_record(seed=9).to_json())
    files = {
        "old.json": (json.dumps(good | {"schema": 0}), "schema"),
        "field.json": (json.dumps(good | {"seed": "nine"}), "seed"),
        "cut.json": (json.dumps(good)[:500], "JSON"),
        "empty.json": ("", "JSON"),
    }
    for name, (text, _) in files.items():
        (output / "records" / name).write_text(text)
    (output / "records" / "folder.json").mkdir()
    return {name: said for name, (_, said) in files.items()} | {"folder.json": "cannot be read"}


@pytest.mark.parametrize(
    ("form", "beginning"), [("md", "| method |"), ("tex", "% To compile"), ("csv", "run_key,")]
)
def test_a_text_is_printed(form: str, beginning: str, output: Path, harness: Run) -> None:
    code, out, err = harness("report", "--output", output, "--format", form)
    assert (code, err) == (0, "")
    assert out.startswith(beginning)
    assert "mp" in out


@pytest.mark.parametrize("form", ["html", "parquet"])
def test_what_nobody_reads_in_a_terminal_is_written(form: str, output: Path, harness: Run) -> None:
    code, out, _ = harness("report", "--output", output, "--format", form)
    file = output / f"report.{form}"
    assert (code, out) == (0, f"Wrote {file}\n")
    content = file.read_bytes()
    assert content.startswith(b"<!DOCTYPE html>" if form == "html" else b"PAR1")


@pytest.mark.parametrize("name", ["a.html", "a.md", "a.tex", "a.csv", "a.parquet", "a.HTM"])
def test_a_files_suffix_names_the_format(
    name: str, output: Path, tmp_path: Path, harness: Run
) -> None:
    file = tmp_path / "new" / name
    assert harness("report", "--output", output, "--to", file)[0] == 0
    assert file.stat().st_size > 0


def test_a_named_format_stands_above_the_suffix(output: Path, tmp_path: Path, harness: Run) -> None:
    file = tmp_path / "table.txt"
    assert harness("report", "--output", output, "--format", "csv", "--to", file)[0] == 0
    assert len(pd.read_csv(file)) == 3


def test_markdown_is_the_same_as_its_format(output: Path, harness: Run) -> None:
    words = ("report", "--output", output)
    assert harness(*words, "--markdown") == harness(*words, "--format", "md")


@pytest.mark.parametrize("form", ["html", "md", "tex"])
def test_an_unfair_ranking_is_made_where_it_is_asked_for_and_says_so(
    form: str, output: Path, tmp_path: Path, harness: Run
) -> None:
    config = make_record().config
    other = config | {"train": config["train"] | {"batch_size": 64}}
    RecordStore(output).put(make_record("qst", score=0.8, config=other))
    file = tmp_path / f"report.{form}"
    for words, unfair in (((), False), (("--allow-unfair",), True)):
        assert harness("report", "--output", output, "--to", file, *words)[0] == 0
        assert ("NOT A FAIR RANKING" in file.read_text(encoding="utf-8")) == unfair


def test_json_stays_the_comparison_without_a_format(output: Path, harness: Run) -> None:
    code, out, _ = harness("report", "--output", output, "--json")
    assert code == 0
    assert {row["method"] for row in json.loads(out)["rows"]} == {"full", "lst", "mp_ismoe"}


@pytest.mark.parametrize("form", ["html", "md", "csv"])
def test_json_names_the_file_of_a_format(form: str, output: Path, harness: Run) -> None:
    damage(output)
    code, out, _ = harness("report", "--output", output, "--format", form, "--json")
    told = json.loads(out)
    assert (code, told["format"], told["records"]) == (0, form, 3)
    assert Path(told["file"]) == output / f"report.{form}"
    assert Path(told["file"]).is_file()
    assert len(told["unreadable"]) == 5


@pytest.mark.parametrize(
    "words",
    [
        ("report",),
        ("report", "--json"),
        ("report", "--format", "md"),
        ("report", "--format", "html"),
        ("plot", "tasks"),
        ("plot", "tasks", "--json"),
    ],
)
def test_damaged_and_old_records_are_named_and_the_others_shown(
    words: tuple[str, ...], output: Path, harness: Run
) -> None:
    code, before, err = harness(*words, "--output", output)
    assert (code, err) == (0, "")
    said = damage(output)
    code, after, err = harness(*words, "--output", output)
    assert code == 0
    lines = err.splitlines()
    assert len(lines) == len(said)
    for name, words_of in said.items():
        [line] = [line for line in lines if name in line]
        assert line.startswith("Left out: ")
        assert words_of in line
    if words != ("plot", "tasks", "--json"):
        assert after == before


def test_damaged_records_are_told_in_html(output: Path, harness: Run) -> None:
    damage(output)
    harness("report", "--output", output, "--format", "html")
    text = (output / "report.html").read_text(encoding="utf-8")
    assert "3 finished" in text
    assert "5 unreadable" in text
    assert "old.json is not a readable record: schema:" in text


def test_damaged_records_alone_are_an_error_that_names_one(output: Path, harness: Run) -> None:
    damage(output)
    for file in (output / "records").glob("[0-9a-f]" * 16 + ".json"):
        file.unlink()
    code, out, err = harness("report", "--output", output)
    assert (code, out) == (2, "")
    assert "5 files, none of them a readable record." in err
    assert "cut.json" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["report", "--format", "htlm"], "Did you mean 'html'?"),
        (["report", "--format", "pdf"], "'pdf'"),
        (["report", "--to", "report.doc"], "report.doc"),
        (["report", "--to", "report"], ".html, .md, .tex, .csv, .parquet"),
        (["report", "steps.json", "--to", "a.html"], "steps.json"),
        (["report", "--markdown", "--format", "html"], "'html' is another"),
        (["plot", "score-memry"], "Did you mean 'score-memory'?"),
        (["plot", "tasks", "--to", "tasks.jpg"], ".png, .svg, .pdf"),
        (["plot", "tasks", "--output", "nowhere"], "there are no records"),
        (["plot", "experts"], "load of experts"),
    ],
)
def test_a_wrong_request_is_one_message_and_exit_code_2(
    words: list[str], expected: str, output: Path, harness: Run
) -> None:
    rest = [] if "--output" in words else ["--output", output]
    code, out, err = harness(*words, *rest)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert expected in err
    assert not (output / "figures").exists()


def test_a_place_that_cannot_be_written_is_one_message(output: Path, harness: Run) -> None:
    (output / "file").write_bytes(b"")
    for words in (("report",), ("plot", "tasks")):
        suffix = "csv" if words == ("report",) else "png"
        target = output / "file" / f"x.{suffix}"
        code, out, err = harness(*words, "--output", output, "--to", target)
        assert (code, out) == (2, "")
        assert "cannot write there" in err


def test_plots_are_listed_without_a_name(harness: Run) -> None:
    code, out, err = harness("plot")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == plots.names()
    listed = json.loads(harness("plot", "--json")[1])
    assert [entry["name"] for entry in listed] == plots.names()
    assert all(entry["summary"] for entry in listed)


def test_a_plot_is_three_files_or_the_one_that_is_named(
    output: Path, tmp_path: Path, harness: Run
) -> None:
    code, out, _ = harness("plot", "score-memory", "--output", output, "--json")
    files = [output / "figures" / f"score-memory.{suffix}" for suffix in ("png", "svg", "pdf")]
    assert code == 0
    assert json.loads(out)["files"] == [str(file) for file in files]
    assert all(file.is_file() for file in files)
    one = tmp_path / "one" / "figure.pdf"
    code, out, _ = harness("plot", "score-memory", "--output", output, "--to", one)
    assert (code, out) == (0, f"Wrote {one}\n")
    assert [file.name for file in one.parent.iterdir()] == ["figure.pdf"]


def test_neither_report_nor_plot_imports_torch(output: Path) -> None:
    code = (
        "import sys\nfrom harness.cli import execute\n"
        "for form in ('html', 'md', 'tex', 'csv', 'parquet'):\n"
        "    assert execute(['report', '--output', sys.argv[1], '--format', form]) == 0\n"
        "assert execute(['plot', 'curves', '--output', sys.argv[1]]) == 0\n"
        "sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(output)], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_a_study_is_shown_again_from_its_document(harness: Run, tmp_path: Path) -> None:
    axes = {"method.bits": [8, 4], "method.experts": [2, 4]}
    study, records = make_study(axes, lambda point, seed: point["method.bits"] / 10)
    path = save_study(study, tmp_path)
    for record in records:
        RecordStore(tmp_path).put(record.model_copy(update={"memory": make_memory()}))
    code, out, err = harness("report", path)
    assert (code, err) == (0, "")
    assert "bits" in out
    code, out, _ = harness("report", path, "--json")
    assert len(json.loads(out)["points"]) == 4
    path.write_text("{}")
    code, _, err = harness("report", path)
    assert code == 2
    assert f"{path} is not a readable study" in err
