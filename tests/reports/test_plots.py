import subprocess
import sys
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.lines import Line2D
from PIL import Image

from harness.errors import UserError
from harness.record import Quality
from harness.testing.records import make_memory, make_provenance, make_record
from reports import plots
from reports.figures import DPI, STYLE
from reports.palette import CATEGORY_COLOURS, METHOD_COLOURS
from reports.panels import front, log_limits, log_ticks
from reports.sheet import Foot, sheet

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert(1)</script> $x_2$ 100% \\frac{1}{ & |\x1b[31m"
NAMES = (
    "curves",
    "experts",
    "memory",
    "predicted",
    "quantization",
    "quantization-layers",
    "score-memory",
    "score-parameters",
    "tasks",
)
SCORES = {"full": 0.95, "lst": 0.7, "mp_ismoe": 0.9}


def shown(name, records) -> str:
    content = plots.render(name, records, ("svg",))["svg"]
    return " ".join(text.strip() for text in ElementTree.fromstring(content).itertext())


def with_experts(record, mixtures=2):
    load = [[0.5, 0.25, 0.25, 0.0]] * mixtures
    history = [
        epoch.model_copy(update={"expert_load": load, "quantization_mse": 2.5e-7 * epoch.epoch})
        for epoch in record.history
    ]
    errors = {"text.0": 2e-6, "text.1": 3e-7, "joint.0": 5e-7}
    quality = record.quality.model_copy(update={"layer_quantization_mse": errors})
    return record.model_copy(update={"history": history, "quality": quality})


def records(**changes):
    made = [
        make_record(method, seed, score + seed / 100, memory=make_memory(3 - number), **changes)
        for number, (method, score) in enumerate(SCORES.items())
        for seed in range(3)
    ]
    return [with_experts(r) if r.method == "mp_ismoe" else r for r in made]


def without(record, **values):
    return record.model_copy(update=values)


def test_every_module_is_a_plot_with_a_sentence():
    assert tuple(plots.names()) == NAMES
    for name in NAMES:
        assert plots.summary(name).endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_is_png_svg_and_pdf_of_one_columns_width(name):
    made = plots.render(name, records(), plots.FORMATS)
    assert list(made) == ["png", "svg", "pdf"]
    with Image.open(BytesIO(made["png"])) as image:
        assert image.size[0] == 675  # 4.5 in at 150 dpi
        assert len(image.getcolors(maxcolors=100_000)) > 10
    width = float(ElementTree.fromstring(made["svg"]).attrib["width"].removesuffix("pt"))
    assert width == pytest.approx(4.5 * 72)
    assert made["pdf"].startswith(b"%PDF")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_records_give_the_same_files_in_any_order(name):
    first = plots.render(name, records(), ("svg", "pdf"))
    assert plots.render(name, records()[::-1], ("svg", "pdf")) == first


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_hostile_names_are_shown_as_they_are(name):
    names = dict.fromkeys(("dataset", "task", "backbone", "recipe", "preset"), HOSTILE)
    content = plots.render(name, records(**names), ("svg", "png", "pdf"))["svg"].decode()
    assert "<script>" not in content
    assert "<script>alert(1)" in " ".join(ElementTree.fromstring(content).itertext())


@pytest.mark.parametrize("name", NAMES)
def test_other_tasks_have_panels_of_their_own(name):
    other = records(task="gqa", dataset="scenes-gqa", recipe="quick")
    text = shown(name, [*records(), *other])
    assert "vqa: easy-vqa" in text
    assert "gqa: scenes-gqa" in text


@pytest.mark.parametrize("name", NAMES)
def test_unfinished_and_limited_runs_alone_are_nothing_to_draw(name):
    made = [
        make_record(status="oom", memory=None, params=None, time=None),
        make_record(seed=1, provenance=make_provenance(limited=True)),
    ]
    with pytest.raises(UserError, match="of 2 records every one is unfinished or limited"):
        plots.render(name, made, ("svg",))


@pytest.mark.parametrize(
    ("name", "changes", "missing"),
    [
        ("curves", {"history": []}, "validation score"),
        ("experts", {"history": []}, "load of experts"),
        ("memory", {"memory": None}, "measured memory"),
        ("predicted", {"memory": None}, "predicted and a measured"),
        ("quantization", {"history": []}, "quantisation error"),
        ("quantization-layers", {"quality": Quality()}, "quantisation error by layer"),
        ("score-memory", {"memory": None}, "a measured training peak"),
        ("score-parameters", {"params": None}, "trainable parameters"),
    ],
)
def test_a_plot_without_data_says_what_is_missing(name, changes, missing):
    with pytest.raises(UserError, match=missing):
        plots.render(name, [without(record, **changes) for record in records()], ("svg",))


@pytest.mark.parametrize("name", ["score-memory", "score-parameters"])
def test_one_method_alone_cannot_be_compared(name):
    with pytest.raises(UserError, match="Nothing to compare"):
        plots.render(name, records()[:3], ("svg",))


@pytest.mark.parametrize("name", ["curves", "memory", "predicted", "tasks"])
def test_a_single_run_is_drawn(name):
    assert "mp_ismoe" in shown(name, [make_record()])


def test_an_unknown_plot_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'score-memory'"):
        plots.render("score-memry", records(), ("svg",))


def test_memory_names_its_categories_and_the_peak_of_every_method():
    text = shown("memory", records())
    for words in ("saved side", "optimizer state", "mp_ismoe", "(MiB)"):
        assert words in text
    assert "saved backbone" not in text
    for scale in (1, 2, 3):
        assert f"{make_memory(scale).train_peak_bytes / 2**20:.3g}" in text


def settings(number: int):
    """Return runs of one method in as many settings."""
    config = make_record().config
    return [
        make_record(
            config={**config, "method": {**config["method"], "config": {"experts": n}}},
            score=0.5 + n / 100,
        )
        for n in range(number)
    ]


@pytest.mark.parametrize(("name", "looks"), [("tasks", 14), ("score-memory", 14), ("curves", 7)])
def test_a_note_says_where_settings_outnumber_their_looks(name, looks):
    assert "repeat after" not in shown(name, settings(looks))
    text = " ".join(shown(name, settings(looks + 1)).split())
    assert f"repeat after {looks} settings of a method: 2 rows share" in text


def test_a_long_legend_fills_the_foot_that_it_is_given():
    keys = {f"setting {n} {'x' * 40}": Line2D([], []) for n in range(40)}
    with mpl.rc_context(STYLE):
        foot = Foot(keys, "a note")
        figure, _ = sheet([1.0], foot)
        figure.set_dpi(DPI)
        [legend] = figure.legends
        top = legend.get_window_extent(figure.canvas.get_renderer()).y1 / DPI
    assert 0 < foot.height - top < 0.2


def test_lines_of_equal_memory_are_those_of_full_fine_tuning():
    text = shown("score-memory", records())
    assert text.split().count("full") == 3  # of the legend, the line and the note
    assert "1/2" in text.split()
    assert "max" in shown("score-memory", records()[3:]).split()


def test_the_error_of_a_prediction_is_written_where_it_is_large():
    memory = make_memory()
    off = memory.model_copy(
        update={"predicted_train_peak_bytes": round(1.25 * memory.train_peak_bytes)}
    )
    assert "+25.0" in shown("predicted", [make_record(memory=off)])
    assert "+0.0" not in shown("predicted", [make_record()])


def test_a_prediction_is_not_compared_with_itself():
    memory = make_memory().model_copy(update={"source": "predicted"})
    with pytest.raises(UserError, match="measured"):
        plots.render("predicted", [make_record(memory=memory)], ("svg",))


def test_mixtures_of_experts_are_numbered():
    text = shown("experts", [with_experts(make_record(), mixtures=3)])
    assert "mixture 3" in text
    assert "mixture 4" not in text
    assert "seed 0" in text


def test_scores_are_percent_of_the_primary_metric():
    for name in ("score-memory", "curves"):
        assert "vqa accuracy (%)" in shown(name, records())
    lower = {"metrics": make_record().metrics.model_copy(update={"direction": "min"})}
    assert "lower is better" in shown("curves", records(**lower))


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1))
def test_the_front_holds_exactly_what_no_point_beats(points):
    best = front(points)
    assert best == sorted(best)
    for cost, score in points:
        beaten = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        assert ((cost, score) in best) == (not beaten)


@given(st.lists(st.floats(1e-3, 1e9), min_size=1), st.sampled_from([2, 10]))
def test_a_logarithmic_axis_holds_its_values_and_some_ticks(values, base):
    low, high = log_limits(values, base)
    assert low < min(values)
    assert max(values) < high
    ticks = log_ticks(low, high, base)
    assert 1 <= len(ticks) <= 6
    assert ticks == sorted(ticks)
    assert all(low <= tick <= high for tick in ticks)


def test_a_method_has_its_colour_in_every_plot():
    for name in ("score-memory", "score-parameters", "tasks", "curves"):
        content = plots.render(name, records(), ("svg",))["svg"].decode()
        assert all(METHOD_COLOURS[method] in content for method in SCORES)
    content = plots.render("memory", records(), ("svg",))["svg"].decode()
    assert CATEGORY_COLOURS["saved_side"] in content


def test_plots_import_neither_torch_nor_pyplot():
    names = ("torch", "matplotlib.pyplot", "mlflow")
    code = (
        "import sys\nfrom reports import plots\n[plots.summary(n) for n in plots.names()]\n"
        f"sys.exit(any(n in sys.modules for n in {names}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
