"""Pages of methods: what they tell, that they are tables still, and how they are written."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import cli
from harness.cards import METHODS
from harness.listing import describe
from harness.markdown import code, escaped, table
from harness.pages import INDEX, page, pages

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def harness(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process; return exit code, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        code = cli.execute(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)[1:-1]


def tables(text: str) -> Iterator[list[list[str]]]:
    for is_row, lines in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        if is_row:
            yield [cells(line) for line in lines]


def described(name: str) -> dict[str, Any]:
    [data] = describe(name)
    return data


def test_there_is_a_page_for_every_method_and_an_index() -> None:
    written = pages()
    assert list(written) == [INDEX, *(f"{name}.md" for name in METHODS.names())]
    assert all(f"({file})" in written[INDEX] for file in written if file != INDEX)
    assert all(text.endswith("\n") for text in written.values())


@pytest.mark.parametrize("name", METHODS.names())
def test_a_page_tells_what_the_card_and_the_configuration_say(name: str) -> None:
    data, text = described(name), page(described(name))
    assert text.startswith(f"# {escaped(name)}\n\n{escaped(data['summary'])}\n")
    for field in data["fields"]:
        assert f"| `method.{field['name']}` | {code(field['type'])} |" in text
    told = [data["source"], data["trains"], data["gradient"], *data["official"].values()]
    told += data["deviations"]
    told += [text for r in data["readings"] for text in (r["question"], r["taken"])]
    assert all(escaped(sentence) in text for sentence in told)
    for preset in data["presets"]:
        assert f"`{name}@{preset}`" in text
    for backbone, setting in data["published"].items():
        assert f"| `{backbone}` |" in text
        assert escaped(setting["note"]) in text
    assert f"| trainable parameters | `{data['cost']['trainable']}` |" in text
    assert all(f"**{count:,}**" in text for count in data["cost"]["counts"].values())


@pytest.mark.parametrize("name", METHODS.names())
def test_every_symbol_of_a_formula_is_defined_on_its_page(name: str) -> None:
    cost = described(name)["cost"]
    formulas = [cost["trainable"], cost["saved"]]
    formulas += [s["value"] for s in cost["symbols"].values() if s.get("value")]
    used = {name for formula in formulas for name in re.findall("[A-Za-z_]+", formula)}
    assert used == set(cost["symbols"])
    assert all(f"| `{symbol}` | " in page(described(name)) for symbol in used)


@pytest.mark.parametrize("name", METHODS.names())
def test_rows_have_as_many_cells_as_their_head(name: str) -> None:
    found = list(tables(page(described(name))))
    assert found
    for rows in found:
        assert len({len(row) for row in rows}) == 1


TEXTS = st.text(alphabet="ab|`*_<&$[]()#-\\ \n")


@given(TEXTS, TEXTS)
def test_no_text_leaves_its_cell(first: str, second: str) -> None:
    written = table(("a", "b"), [(escaped(first), code(second)), (code(first), escaped(second))])
    assert [len(row) for row in map(cells, written.split("\n"))] == [2, 2, 2, 2]


def test_texts_are_no_markup() -> None:
    data = described("lst") | {"summary": "a | b\n# <b>c</b> *d* [e](f) `g`", "name": "x_y"}
    text = page(data)
    assert text.startswith(
        "# x\\_y\n\na &#124; b # &lt;b&gt;c&lt;/b&gt; \\*d\\* \\[e\\](f) \\`g\\`\n"
    )


def test_code_holds_bars_and_backticks() -> None:
    assert code("2 | 4") == r"`2 \| 4`"
    assert code("a `b` c") == "`` a `b` c ``"
    assert code(" ") == ""


def test_readings_stand_beside_their_setting_and_its_alternatives() -> None:
    *_, readings = tables(page(described("mp_ismoe")))
    settings = [line for row in readings for line in row[-1].strip().split("<br>")]
    for setting, others in (
        ("rounding=nearest", "floor"),
        ("bits=8", "2, 3, 4, null"),
        ("accumulate=false", "true"),
        ("top_k=2", "int >= 1"),
        ("expert_hidden=4m", "int, m, d"),
    ):
        assert f"`{setting}`; `{others}`" in settings
    assert "fixed" in settings


def test_a_card_that_says_little_has_a_short_page() -> None:
    empty = {"trains": "", "gradient": "", "cost": None, "official": {}, "deviations": []}
    data = described("mp_ismoe") | empty | {"readings": [], "published": {}, "presets": {}}
    headings = [line for line in page(data).splitlines() if line.startswith("## ")]
    assert headings == ["## Where the gradient flows", "## Settings"]


def test_the_verb_writes_pages_and_says_so(harness: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pages"
    code, out, err = harness("docs", "--output", str(folder))
    files = sorted(path.name for path in folder.iterdir())
    assert (code, err) == (0, "")
    assert files == sorted(pages())
    assert sorted(out.splitlines()) == sorted(f"Wrote {folder / name}" for name in files)
    assert all((folder / name).read_text() == text for name, text in pages().items())


def test_named_methods_have_a_page_each_without_an_index(harness: Run, tmp_path: Path) -> None:
    code, out, _ = harness("docs", "lora@fa", "lst", "lora", "--output", str(tmp_path), "--json")
    assert code == 0
    assert json.loads(out) == {"files": [str(tmp_path / "lora.md"), str(tmp_path / "lst.md")]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lora.md", "lst.md"]


def test_unknown_methods_are_reported_together(harness: Run, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    code, out, err = harness("docs", "lst", "unipd", "lora@fe", "--output", str(folder))
    assert (code, out) == (2, "")
    assert "Did you mean 'unipt'?" in err
    assert "Did you mean 'fa'?" in err
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_one_message(harness: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    code, out, err = harness("docs", "--output", str(file))
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: --output {file}: cannot write there")
    assert file.read_text() == "mine"


def test_the_same_cards_give_the_same_bytes(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        words = [sys.executable, "-m", "harness", "docs", "--output", str(tmp_path / seed)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / seed).iterdir()} for seed in "12"
    )
    assert first == second
    assert len(first) == len(METHODS.names()) + 1


def test_show_tells_the_same_in_short(harness: Run) -> None:
    code, out, _ = harness("show", "mp_ismoe")
    text = " ".join(out.split())
    [data] = json.loads(harness("show", "mp_ismoe", "--json")[1])
    assert code == 0
    assert data["readings"] == described("mp_ismoe")["readings"]
    assert all(f"{count:,} on {b}" in text for b, count in data["cost"]["counts"].items())
    for reading in data["readings"]:
        for name in reading["fields"]:
            assert f"{name}=" in text
    assert "m = method.width or d // r" in text
