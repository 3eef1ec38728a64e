"""Figures of studies, drawn from made-up Records."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from harness.testing.studies import make_study
from reports.studies import draw, summarise
from reports.studies.pareto_figure import pareto

AXES = {"method.bits": (2, 3, 4, 8), "method.experts": (2, 4, 8), "method.noise": (0.0, 0.5, 1.0)}
NAMES = ("main_effects", "interactions", "importances", "pareto", "learning_curves")
HOSTILE = "<script>alert(1)</script> $x_2$ 100% \\frac{1}{ & |"


def score_of(point, seed):
    bits, experts = point["method.bits"], point["method.experts"]
    return 0.8 + 0.008 * bits + 0.002 * experts + 0.0003 * bits * experts + 0.001 * seed


def peak_of(point):
    return int(2**30 * point["method.bits"] * point["method.experts"] ** 0.5 / 8)


def svg_text(path: Path) -> str:
    return " ".join(text.strip() for text in ElementTree.parse(path).getroot().itertext())


def stems(paths: list[Path]) -> set[str]:
    return {path.stem for path in paths}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    study, records = make_study(AXES, score_of, seeds=(0, 1), peak_bytes=peak_of)
    folder = tmp_path_factory.mktemp("study") / "new"
    return folder, draw(summarise(study, records), folder)


def test_every_figure_is_written_in_three_formats(drawn):
    folder, paths = drawn
    expected = [folder / f"{name}.{suffix}" for name in NAMES for suffix in ("png", "svg", "pdf")]
    assert paths == expected
    for path in paths:
        assert path.stat().st_size > 1000
    for name in NAMES:
        with Image.open(folder / f"{name}.png") as image:
            assert image.width == 675  # 4.5 in at 150 dpi
            assert len(image.getcolors(maxcolors=100_000)) > 10


def test_figures_name_factors_levels_and_metric(drawn):
    folder, _ = drawn
    effects = svg_text(folder / "main_effects.svg")
    for words in ("bits (", "experts (", "noise (0.0 %)", "test vqa accuracy (%)", "0.5"):
        assert words in effects
    assert "bits × experts" in svg_text(folder / "interactions.svg")
    assert "87.3" in svg_text(folder / "interactions.svg")  # of 8 bits and 2 experts
    shares = svg_text(folder / "importances.svg")
    for words in ("sum of squares", "fANOVA (single factors)", "peak memory", "bits × noise"):
        assert words in shares
    assert "peak memory of a training step (GiB)" in svg_text(folder / "pareto.svg")
    assert "1: bits=2, experts=2, noise=0.0" in svg_text(folder / "pareto.svg")
    curves = svg_text(folder / "learning_curves.svg")
    for words in ("bits=2", "bits=8", "validation vqa accuracy (%)"):
        assert words in curves


def test_few_points_are_all_named(tmp_path):
    study, records = make_study({"method.bits": (2, 4)}, lambda point, seed: 0.8)
    draw(summarise(study, records), tmp_path)
    text = svg_text(tmp_path / "pareto.svg")
    assert "1: bits=2" in text
    assert "2: bits=4" in text


@pytest.mark.parametrize("step", [2**16, 2**20, 3 * 2**24])
def test_the_peaks_below_the_front_are_few_enough_to_be_told_apart(step):
    study, records = make_study(
        {"method.bits": (2, 4, 8)},
        lambda point, seed: 0.8,
        peak_bytes=lambda point: 2**26 + step * point["method.bits"],
    )
    figure = pareto(summarise(study, records))
    low, high = figure.axes[0].get_xlim()
    assert 2 <= sum(low <= tick <= high for tick in figure.axes[0].get_xticks()) <= 5


def test_nothing_is_drawn_where_everything_failed(tmp_path):
    study, _ = make_study(AXES, score_of)
    assert draw(summarise(study, []), tmp_path / "new") == []
    assert not (tmp_path / "new").exists()


def test_one_value_leaves_the_learning_curve_alone(tmp_path):
    study, records = make_study({"method.bits": (4,)}, lambda point, seed: 0.8)
    assert stems(draw(summarise(study, records), tmp_path)) == {"learning_curves"}


def test_one_factor_and_one_seed_have_effects_without_interactions(tmp_path):
    study, records = make_study(
        {"method.bits": (2, 4, 8)}, lambda point, seed: 0.8 + 0.01 * point["method.bits"]
    )
    found = stems(draw(summarise(study, records), tmp_path))
    assert found == set(NAMES) - {"interactions"}


@pytest.mark.filterwarnings("error")
def test_hostile_names_conditional_factors_and_a_budget_can_be_drawn(tmp_path):
    axes = {"method.bits": (4, 8), f"method.{HOSTILE}": (HOSTILE, "b", None)}
    points = [{"method.bits": 8}]
    points += [{"method.bits": 4, f"method.{HOSTILE}": v} for v in axes[f"method.{HOSTILE}"]]
    study, records = make_study(
        axes,
        lambda point, seed: 0.8 + 0.01 * len(str(point)) / 100 + 0.001 * seed,
        points=points,
        seeds=(0, 1),
        budget_bytes=2**25,
        name=HOSTILE,
    )
    paths = draw(summarise(study, records), tmp_path)
    assert {"main_effects", "importances", "pareto"} <= stems(paths)
    for path in paths:
        if path.suffix == ".svg":
            assert "<script>" not in path.read_text()
    assert "<script>alert(1)</script> $x_2$ 100%" in svg_text(tmp_path / "pareto.svg")


def test_the_same_report_gives_the_same_files(tmp_path):
    study, records = make_study({"method.bits": (2, 4)}, lambda point, seed: 0.8 + seed / 100)
    report = summarise(study, records)
    first = [path.read_bytes() for path in draw(report, tmp_path / "a")]
    assert first == [path.read_bytes() for path in draw(report, tmp_path / "b")]


def test_studies_import_neither_torch_nor_pyplot():
    names = ("torch", "matplotlib.pyplot", "mlflow")
    code = f"import sys, reports.studies; sys.exit(any(name in sys.modules for name in {names}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
