import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from harness.memory.categories import CATEGORIES
from harness.record import Memory
from harness.testing.records import make_memory, make_provenance, make_record, make_timeline
from reports.figures import learning_curve, memory_timeline, spread_heights
from reports.palette import CATEGORY_COLOURS, METHOD_COLOURS, method_colour

HOSTILE = "<script>alert(1)</script> $x_2$ 100% \\frac{1}{ & |\x1b[31m"
GIB = 2**30


def _svg_text(path: Path) -> str:
    return " ".join(text.strip() for text in ElementTree.parse(path).getroot().itertext())


def test_learning_curve_is_written_as_png_and_svg(tmp_path):
    png, svg = learning_curve(make_record(), tmp_path / "new" / "curve.png")
    with Image.open(png) as image:
        assert image.size == (675, 585)  # 4.5 x 3.9 in at 150 dpi
        assert len(image.getcolors(maxcolors=100_000)) > 10
    shown = _svg_text(svg)
    for words in ("best validation 92.4", "test 92.0", "majority 37.3", "question only 67.0"):
        assert words in shown
    assert "vqa accuracy (%)" in shown
    assert "training loss" in shown


def test_memory_timeline_names_phases_categories_and_the_peak(tmp_path):
    record = make_record()
    png, svg = memory_timeline(make_timeline(record.memory), record, tmp_path / "memory")
    with Image.open(png) as image:
        assert image.size == (675, 540)
    shown = _svg_text(svg)
    peak = record.memory.train_peak_bytes / 2**20
    for words in ("forward", "backward", "optimizer", "live memory (MiB)", f"peak {peak:.4g} MiB"):
        assert words in shown
    assert "saved side 14 MiB" in shown
    assert "saved backbone" not in shown
    assert "GiB" not in shown


def test_large_memory_is_shown_in_gib_alone(tmp_path):
    memory = make_memory(scale=400)
    _, svg = memory_timeline(make_timeline(memory), make_record(memory=memory), tmp_path / "memory")
    shown = _svg_text(svg)
    assert f"peak {memory.train_peak_bytes / GIB:.4g} GiB" in shown
    assert "MiB" not in shown


@pytest.mark.filterwarnings("error")
def test_hostile_names_are_shown_as_they_are(tmp_path):
    record = make_record(dataset=HOSTILE, provenance=make_provenance(limited=True))
    _, svg = learning_curve(record, tmp_path / "curve")
    memory_timeline(make_timeline(record.memory), record, tmp_path / "memory")
    assert "<script>" not in svg.read_text()
    assert "<script>alert(1)</script> $x_2$ 100%" in _svg_text(svg)
    assert "limited" in _svg_text(svg)


def test_one_epoch_without_scores_and_all_categories_can_be_drawn(tmp_path):
    record = make_record()
    bare = record.model_copy(
        update={
            "history": [record.history[0].model_copy(update={"val": {}, "loss": 0.0})],
            "metrics": record.metrics.model_copy(update={"test": {}, "baselines": {}}),
        }
    )
    for path in learning_curve(bare, tmp_path / "curve"):
        assert path.stat().st_size > 0
    sizes = dict.fromkeys(CATEGORIES, 2**20)
    memory = Memory(**make_memory().model_dump() | {"at_peak_bytes": sizes})
    assert all(memory_timeline(make_timeline(memory), bare, tmp_path / "memory"))


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(ValueError, match="no epoch"):
        learning_curve(make_record(history=[]), tmp_path / "curve")
    with pytest.raises(ValueError, match="no sample"):
        memory_timeline([], make_record(), tmp_path / "memory")
    assert not list(tmp_path.iterdir())


def test_the_same_record_gives_the_same_svg(tmp_path):
    first = [learning_curve(make_record(), tmp_path / name)[1].read_bytes() for name in "ab"]
    assert first[0] == first[1]


def test_every_category_has_one_colour_of_its_own():
    assert set(CATEGORY_COLOURS) == set(CATEGORIES)
    assert len(set(CATEGORY_COLOURS.values())) == len(CATEGORIES)
    assert len(set(METHOD_COLOURS.values())) == len(METHOD_COLOURS)
    assert method_colour("somebody_elses") == method_colour("somebody_elses")


def test_labels_are_spread_without_changing_their_order():
    assert spread_heights([10, 50], gap=5, top=100) == [10, 50]
    assert spread_heights([97, 98, 99], gap=5, top=100) == [90, 95, 100]


def test_figures_import_neither_torch_nor_pyplot():
    names = ("torch", "matplotlib.pyplot", "seaborn", "mlflow")
    code = f"import sys, reports.figures; sys.exit(any(n in sys.modules for n in {names}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=_root()).returncode == 0


def _root() -> Path:
    return Path(__file__).resolve().parents[2]
