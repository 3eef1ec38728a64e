"""The HTML page of a study, and the other forms of its report."""

import json
import re

import pandas as pd
import pytest
from outline import check_alone

from harness.cli import execute
from harness.record import RecordStore
from harness.study import save_study
from harness.testing.records import make_memory, make_provenance
from harness.testing.studies import make_study
from reports.formats import FORMATS
from reports.studies import StudyForms, summarise
from reports.studies.figures import drawn
from reports.studies.page import study_page

AXES = {"method.bits": (2, 4, 8), "method.experts": (2, 16)}
HOSTILE = "<script>alert(1)</script> \x1b[31m & \"'"


def page_of(report):
    return study_page(report, drawn(report))


def score_of(point, seed):
    return 0.8 + 0.01 * point["method.bits"] + 0.0004 * point["method.experts"] + 0.002 * seed


@pytest.fixture
def written(tmp_path):
    """A study's document in an output folder with its records."""
    study, records = make_study(AXES, score_of, seeds=(0, 1))
    for record in records:
        RecordStore(tmp_path).put(record.model_copy(update={"memory": make_memory()}))
    return save_study(study, tmp_path)


def test_the_page_holds_findings_tables_figures_and_notes():
    page = page_of(summarise(*make_study(AXES, score_of, seeds=(0, 1))))
    for words in (
        "<h1>Study bits: mp_ismoe on vqa; easy-vqa, recipe default, backbone scenes_vl</h1>",
        "best by validation: bits=8, experts=16",
        "<h3>Main effects on the test score</h3>",
        "bits × experts: mean score (%)",
        "12 runs of 6 settings: 12 done.",
    ):
        assert words in page
    assert set(re.findall('id="figure-([a-z_]+)"', page)) >= {"main_effects", "interactions"}
    check_alone(page)


def test_figures_and_levels_are_sorted_as_numbers():
    page = page_of(summarise(*make_study(AXES, score_of, seeds=(0, 1))))
    assert '<td class="number" data-value="16.0">16</td>' in page
    assert '<td class="number" data-value="88.7">88.7±1.3</td>' in page
    assert '<td class="number" data-value="183424.0">183,424</td>' in page


def test_hostile_names_stay_text():
    axes = {"method.bits": (2, HOSTILE), f"method.{HOSTILE}": (HOSTILE, "plain")}
    study, records = make_study(axes, score_of_none, name=HOSTILE, dataset=HOSTILE)
    page = page_of(summarise(study, records))
    assert page.count("<script") == 1
    assert "\x1b" not in page


def score_of_none(point, seed):
    return 0.8


def test_a_study_without_a_score_is_a_page_too():
    study, records = make_study(AXES, score_of)
    lost = [c.model_copy(update={"status": "failed", "run_key": None}) for c in study.cells]
    page = page_of(summarise(study.model_copy(update={"cells": tuple(lost)}), records))
    assert "No run of this study has a score" in page
    assert "There are no runs with a score to draw." in page


def test_bundled_data_are_marked():
    study, records = make_study(AXES, score_of)
    marked = [r.model_copy(update={"provenance": make_provenance("bundled")}) for r in records]
    assert "easy-vqa (bundled)" in page_of(summarise(study, marked))


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_has_the_study(form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    study, records = make_study(AXES, score_of)
    assert len(StudyForms(study, records).content(form)) > 500


def test_the_command_writes_pages_beside_the_figures_and_prints_texts(written, capsys):
    assert execute(["report", str(written), "--format", "html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["records"] == 12
    page = written.with_suffix("") / "study.html"
    assert told["file"] == str(page)
    assert "Main effects" in page.read_text()
    assert execute(["report", str(written), "--format", "tex"]) == 0
    assert r"\begin{tabular}" in capsys.readouterr().out
    table = written.with_name("runs.csv")
    assert execute(["report", str(written), "--to", str(table)]) == 0
    assert len(pd.read_csv(table)) == 12
