import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest
from outline import Outline, check_alone

import reports.html
from harness.testing.records import make_memory, make_provenance, make_record
from reports.comparison import compare
from reports.html import page as page_of
from reports.html.svg import inline_svg
from reports.tables import difference_text

HOSTILE = "<script>alert(1)</script>\" onload='x' </style> {{ 7*7 }} &amp; \x1b[31m"
SHOWN = HOSTILE.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
SCRIPT = Path(reports.html.__file__).with_name("page.js")
ROOT = Path(__file__).resolve().parents[2]


def page(records, problems=(), groups=MappingProxyType({})) -> str:
    return page_of(compare(records), records, problems, groups)


def records():
    scores = {"full": 0.95, "lst": 0.7, "mp_ismoe": 0.9}
    return [
        make_record(m, seed, score + seed / 100, memory=make_memory(1 + len(m)))
        for m, score in scores.items()
        for seed in range(3)
    ]


def test_the_page_shows_scores_memory_figures_and_provenance():
    outline = Outline(page(records()))
    for words in (
        "Comparison of 9 runs",
        "vqa: easy-vqa, recipe default, backbone scenes_vl",
        "96.0",
        "93.5 .. 98.5",
        "majority 37.3 %, question only 67.0 %",
        "0123456789abcdef",
        "some processor",
        "torch 2.11.0",
        "MIT",
        "train 34,000",
        "Nothing: every run is finished and ranked.",
    ):
        assert words in outline.text
    assert outline.tags["svg"] == 4
    assert "bundled" not in outline.text


def test_a_difference_has_its_interval_and_p_value_or_is_not_tested():
    tested = {"full": (0.95, 0.96, 0.955), "lst": (0.70, 0.72, 0.715)}
    runs = [make_record(m, n, score) for m, own in tested.items() for n, score in enumerate(own)]
    for made in (runs, runs[::3]):
        comparison = compare(made)
        text = difference_text(comparison.rows[1].difference)
        assert text in Outline(page_of(comparison, made)).text
    assert text.endswith("not tested")


def test_the_page_needs_nothing_beside_itself():
    check_alone(page(records()))


def test_failed_limited_and_unreadable_runs_are_told():
    failed = make_record("lora", 1, status="oom", error="no memory\nat step 3", memory=None)
    limited = make_record("bitfit", 2, provenance=make_provenance("bundled", limited=True))
    outline = Outline(page([*records(), failed, limited], ["a.json is not a readable record."]))
    for words in (
        "no memory at step 3",
        "Not finished, and therefore not ranked: 1",
        "never ranked: 1",
        "bitfit on vqa, easy-vqa, seed 2",
        "a.json is not a readable record.",
        "comparable with no published score",
    ):
        assert words in outline.text


def test_a_complete_group_is_averaged():
    tasks = {"pair": ("vqa", "gqa")}
    other = [make_record(r.method, r.seed, 0.5, task="gqa") for r in records()]
    outline = Outline(page([*records(), *other], (), tasks))
    assert "pair (2 tasks)" in outline.text
    assert "73.0" in outline.text  # full: (96 + 50) / 2
    assert "pair" not in Outline(page(records(), (), tasks)).text


def test_nothing_finished_is_a_page_too():
    outline = Outline(page([make_record(status="failed", error="x", params=None, time=None)]))
    assert "There are no finished runs to compare." in outline.text
    assert outline.tags["svg"] == 0


@pytest.mark.filterwarnings("error")
def test_hostile_names_stay_text():
    origin = make_provenance()
    data = origin.data.model_copy(update={"name": HOSTILE, "licence": HOSTILE, "source": HOSTILE})
    update = {"data": data, "device": HOSTILE, "notices": (HOSTILE,), "commit": HOSTILE}
    names = dict.fromkeys(("dataset", "task", "recipe", "backbone", "preset"), HOSTILE)
    hostile = make_record(HOSTILE, provenance=origin.model_copy(update=update), **names)
    failed = make_record(HOSTILE, 1, status="failed", error=HOSTILE, **names)
    text = page([hostile, failed], [HOSTILE])
    outline = Outline(text)
    assert outline.tags["script"] == 1
    assert "alert" not in "".join(outline.values("onload")) + SCRIPT.read_text()
    assert not {name for _, name, _ in outline.attributes if name.startswith("on")}
    assert "\x1b" not in text
    assert " ".join(SHOWN.split()) in outline.text
    assert any(SHOWN in value for value in outline.values("data-text"))


def test_a_drawing_keeps_its_marks_under_new_ids():
    drawing = (
        b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        b'<metadata>x</metadata><style>*{}</style><g id="a"/><use xlink:href="#a"/>'
        b'<path clip-path="url(#a)"/><text>id="a" &lt;b&gt;</text></svg>'
    )
    outline = Outline(str(inline_svg(drawing, "p-", 'say "x"')))
    assert outline.values("id") == ["p-a"]
    assert outline.values("href") == ["#p-a"]
    assert outline.values("clip-path") == ["url(#p-a)"]
    assert outline.values("aria-label") == ['say "x"']
    assert outline.text == 'id="a" <b>'
    assert outline.tags["metadata"] == outline.tags["style"] == 0


def test_the_page_is_made_without_torch():
    code = "import sys, reports.html; sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_script_is_short():
    assert len(SCRIPT.read_text().splitlines()) < 150


STAGE = """
const cells = (texts) => texts.map((text) => (
  typeof text === "number" ? { textContent: `${text}`, dataset: { value: `${text}` } }
  : { textContent: text, dataset: {} }));
const rowOf = (texts) => ({ cells: cells(texts), dataset: { text: texts[0] }, hidden: false });
const body = { rows: [["lst", 9], ["full", 10], ["QST", ""], ["bitfit", -1]].map(rowOf) };
body.append = (...rows) => { body.rows = rows; };
const table = { tBodies: [body] };
const attributes = {};
const header = {
  parentElement: { cells: [] }, cellIndex: 0, closest: () => table,
  getAttribute: (name) => attributes[name] ?? null,
  setAttribute: (name, value) => { attributes[name] = value; },
  removeAttribute: (name) => { delete attributes[name]; },
};
header.parentElement.cells.push(header);
const listeners = {};
const button = { parentElement: header, addEventListener: (kind, f) => { listeners.click = f; } };
const input = { value: "", addEventListener: (kind, f) => { listeners.input = f; } };
const block = { hidden: false, querySelectorAll: () => body.rows };
globalThis.document = {
  querySelectorAll: (what) => (what === "th button" ? [button] : [block]),
  querySelector: () => input,
};
"""
PLAY = """
const click = (column) => {
  header.cellIndex = column;
  listeners.click({ currentTarget: button });
  return [attributes["aria-sort"], ...body.rows.map((row) => row.cells[0].textContent)];
};
const filter = (text) => {
  input.value = text;
  listeners.input();
  return [block.hidden, ...body.rows.filter((row) => !row.hidden)
    .map((row) => row.cells[0].textContent).sort()];
};
console.log(JSON.stringify([click(0), click(0), click(1), click(1),
  filter("T"), filter("zz"), filter("")]));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_sorts_and_filters(tmp_path):
    file = tmp_path / "page.js"
    file.write_text(STAGE + SCRIPT.read_text().replace('"use strict";', "") + PLAY)
    done = subprocess.run(["node", str(file)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        ["ascending", "bitfit", "full", "lst", "QST"],
        ["descending", "QST", "lst", "full", "bitfit"],
        ["ascending", "bitfit", "lst", "full", "QST"],
        ["descending", "full", "lst", "bitfit", "QST"],
        [False, "QST", "bitfit", "lst"],
        [True],
        [False, "QST", "bitfit", "full", "lst"],
    ]


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CLICK = "<script>document.querySelectorAll('.ranking th button')[1].click();</script></body>"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed")
def test_a_browser_shows_and_sorts_the_page_without_complaint(tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page(records()).replace("</body>", CLICK), encoding="utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    done = subprocess.run(
        [str(BROWSER), *options, "--enable-logging=stderr", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    body = re.search(r'<table class="ranking">.*?</table>', done.stdout, flags=re.DOTALL).group()
    assert 'aria-sort="ascending"' in body
    assert re.findall(r"<td>(full|lst|mp_ismoe)</td>", body) == ["lst", "mp_ismoe", "full"]
