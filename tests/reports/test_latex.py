import re
import shutil
import string
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.testing.records import make_memory, make_provenance, make_record
from harness.testing.studies import make_study
from reports.comparison import compare
from reports.latex import ROWS, comparison_latex, escaped
from reports.studies import summarise
from reports.studies.latex import ROWS as STUDY_ROWS
from reports.studies.latex import study_latex

HOSTILE = (
    r"\input{/etc/passwd} $x_2$ 100% #1 & {~^} [a] * -- `q' " + '"<|>" 中é\x1b\n\\end{document}'
)


def records():
    scores = {"full": 0.95, "lst": 0.7, "mp_ismoe": 0.9}
    return [
        make_record(m, seed, score + seed / 100, memory=make_memory(1 + len(m)))
        for m, score in scores.items()
        for seed in range(3)
    ]


def alone(tables: str) -> str:
    """Return the document that the preamble's comment describes."""
    packages = re.search(r"(\\documentclass.*\\begin\{document\})", tables).group()
    return f"{packages}\n{tables}\n\\end{{document}}\n"


def test_a_ranking_is_a_booktabs_table_with_the_numbers():
    text = comparison_latex(compare(records()))
    for words in (
        r"\begin{tabularx}{\linewidth}",
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"full & 96.0 $\pm$ 1.0 & 93.5\textendash{}98.5 & 3 &",
        r"mp\_\allowbreak{}ismoe & 91.0",
        r"vqa accuracy on the test split of easy-vqa (vqa), recipe default, backbone scenes\_vl",
        "Student's t",
        "% Left out: 0 limited, 0 unfinished runs.",
    ):
        assert words in text
    assert text.index("full &") < text.index("ismoe &") < text.index("lst &")


def test_every_ranking_has_a_table_of_its_own():
    other = make_record("lst", task="gqa", dataset="scenes-gqa")
    text = comparison_latex(compare([*records(), other]))
    assert text.count(r"\begin{tabularx}") == text.count(r"\end{table}") == 2


def many(number: int):
    """Return runs of as many settings, whose names take several lines of their column."""
    config = make_record().config
    chosen = [{"expert_hidden": 64 + n, "noise_scale": n / 7} for n in range(number)]
    return [
        make_record(
            config={**config, "method": {**config["method"], "config": own}},
            preset="low_pre_no_noise",
            score=0.5 + n / 1000 + seed * n**2 / 10_000,
            seed=seed,
        )
        for n, own in enumerate(chosen)
        for seed in range(2)
    ]


def test_a_long_ranking_is_a_table_for_every_page_of_it():
    text = comparison_latex(compare(many(ROWS + 1)))
    assert text.count(r"\begin{table}") == 2
    assert f"Rows 1 to {ROWS} of {ROWS + 1}." in text
    assert f"Rows {ROWS + 1} to {ROWS + 1} of {ROWS + 1}." in text
    assert comparison_latex(compare(many(ROWS))).count(r"\begin{table}") == 1


def test_a_long_name_may_be_wrapped_within_its_words():
    assert r"mp\_\allowbreak{}ismoe@\allowbreak{}low\_\allowbreak{}pre" in comparison_latex(
        compare(many(2))
    )


def test_bundled_data_and_runs_left_out_are_told():
    bundled = make_record(provenance=make_provenance("bundled"))
    limited = make_record(seed=1, provenance=make_provenance(limited=True))
    text = comparison_latex(compare([bundled, limited, make_record(seed=2, status="oom")]))
    assert "comparable with no published score" in text
    assert "1 limited, 1 unfinished" in text


def test_no_runs_are_said_to_be_none():
    assert "no finished runs" in comparison_latex(compare([]))


@given(st.text())
def test_escaped_text_holds_no_command_of_its_own(text):
    shown = escaped(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert "--" not in shown
    plain = re.sub(
        r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar"
        r"|textasciigrave|textendash)\{\}|\$\\(pm|times)\$|\\[{}%$&#_]|\{''\}|\{[\[\]*]\}|-\{\}",
        "",
        shown,
    )
    assert not set(plain) & set('\\{}%$&#_^~<>|`"[]*')


@given(st.text(alphabet=string.ascii_letters + string.digits + " .,:;=()+/!?@-"))
def test_ordinary_text_stays_as_it_is(text):
    assert escaped(text).replace("-{}", "-") == " ".join(text.split())


def test_a_study_has_a_table_for_every_section():
    axes = {"method.bits": (2, 4), "method.experts": (2, 4, 8)}
    text = study_latex(
        summarise(*make_study(axes, lambda point, seed: 0.8 + point["method.bits"] / 50))
    )
    for words in (
        r"\begin{tabular}{@{}lllrrrrrr@{}}",
        "Settings, best validation score first",
        "Main effects on the test score",
        r"bits $\times$ experts: mean score (\%)",
        "Shares of variance",
        r"% best by validation: bits=4",
    ):
        assert words in text
    assert text.count(r"\begin{table}") == text.count(r"\end{tabular}}") == 4


def test_a_long_study_is_a_table_for_every_page_of_it():
    axes = {"method.experts": tuple(range(2, STUDY_ROWS + 3))}
    text = study_latex(summarise(*make_study(axes, lambda point, seed: 0.8)))
    assert f"Rows {STUDY_ROWS + 1} to {STUDY_ROWS + 1} of {STUDY_ROWS + 1}." in text


def compiled(tables: str, folder) -> str:
    """Compile the document that the preamble's comment describes; return what pdflatex says."""
    (folder / "tables.tex").write_text(alone(tables))
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "tables"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert (folder / "tables.pdf").stat().st_size > 0
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_tables_compile(tmp_path):
    names = dict.fromkeys(("dataset", "task", "recipe", "backbone", "preset"), HOSTILE)
    compiled(comparison_latex(compare([*records(), make_record(HOSTILE, **names)])), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_tables_stay_on_the_page(tmp_path):
    said = compiled(comparison_latex(compare([*records(), *many(2 * ROWS)])), tmp_path)
    assert "Overfull" not in said
    assert "Float too large" not in said


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_tables_of_a_study_compile_and_stay_on_the_page(tmp_path):
    axes = {"method.bits": (2, HOSTILE), f"method.{HOSTILE}": tuple(range(STUDY_ROWS))}
    study, made = make_study(axes, lambda point, seed: 0.8, seeds=(0, 1), name=HOSTILE)
    lost = study.cells[0].model_copy(update={"status": "failed", "reason": HOSTILE * 3})
    study = study.model_copy(update={"cells": (lost, *study.cells[1:])})
    said = compiled(study_latex(summarise(study, made)), tmp_path)
    assert "Overfull" not in said
    assert "Float too large" not in said
