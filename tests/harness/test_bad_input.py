"""Wrong requests, through the command line: exit code 2, one message, no traceback."""

import shutil
import sys
from pathlib import Path

import pytest

from harness.cli import execute

RUN = ("run", "--method", "mp_ismoe", "--task", "vqa", "--tracking-uri", "off", "-q")
WEIGHTS = Path(__file__).resolve().parents[2] / "harness/backbones/scenes_vl/weights"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run the command, check that it is refused as it should be, and return the message."""
    code = execute(words)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--method", "mp_ismo"], ["'mp_ismo'", "Did you mean 'mp_ismoe'?"]),
        (["--task", "vqaa"], ["'vqaa'", "Did you mean 'vqa'?"]),
        (["--backbone", "scenesvl"], ["'scenesvl'", "Did you mean 'scenes_vl'?"]),
        (["--method", "mp_ismoe@no_noize"], ["'no_noize'", "no_noise"]),
        (["--recipe", "quik"], ["'quik'", "quick"]),
        (["--dataset", "easyvqa"], ["'easyvqa'", "easy-vqa"]),
        (["--set", "method.bit=4"], ["'method.bit'", "bits"]),
        (["--set", "train.epochs=many"], ["train.epochs=many", "integer"]),
        (["--set", "method.bits=5"], ["method.bits=5", "Known: 2, 3, 4, 8."]),
        (["--set", "method.expert_hidden=q"], ["Error: method.expert_hidden=q:", "4m, d, m"]),
        (["--set", "method.top_k=9"], ["top_k=9", "experts=4"]),
        (["--set", "method.experts=0"], ["method.experts=0", "greater than or equal to 1"]),
        (["--set", "method.sample_percent=101"], ["method.sample_percent=101", "100"]),
        (["--set", "method.host=ltd"], ["method.host=ltd", "lst"]),
        (["--set", "train.lr=-1e-3"], ["train.lr=-0.001", "greater than 0"]),
        (["--set", "lr=1"], ["'lr'", "SECTION.FIELD"]),
        (["--set", "train.lr"], ["'--set train.lr'", "="]),
        (["--amp", "fp16"], ["fp16", "bf16"]),
        (["--device", "gpu"], ["'gpu'", "cuda"]),
        (["--device", "cuda:"], ["'cuda:'", "cuda:INDEX"]),
        (["--device", "auto:0"], ["'auto:0'", "cuda:INDEX"]),
        (["--set", "train.grad_accum=1000"], ["grad_accum=1000", "batch_size=128", "needs a row"]),
        (["--seed", "-1"], ["--seed -1", "0 or more"]),
        (["--limit", "0"], ["--limit 0", "at least 1"]),
        (["--budget", "2GB"], ["--budget '2GB'", "such as 8GiB, or a method."]),
        (["--budget", "lts"], ["--budget 'lts'", "or a method. Did you mean 'lst'"]),
        (["--fill-budget", "experts"], ["--fill-budget experts", "give --budget too"]),
        (["--config", "missing.yaml"], ["missing.yaml", "No such file"]),
    ],
    ids=" ".join,
)
def test_a_wrong_configuration_quotes_what_was_typed_and_states_the_rule(
    words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, *RUN, *words)
    assert all(text in message for text in expected), message


def test_all_problems_come_in_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["method.bits=5", "method.top_k=9", "train.lr=-1", "trian.lr=1"]
    words = [word for setting in settings for word in ("--set", setting)]
    message = refused(capsys, *RUN, *words, "--dataset", "easyvqa", "--device", "gpu")
    assert message.startswith("Error: 6 problems:")
    for typed in ("easyvqa", "gpu", "bits=5", "top_k=9", "lr=-1", "trian.lr"):
        assert typed in message


def test_an_impossible_pair_is_refused_before_anything_loads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.cards import BACKBONES, Registry

    card = BACKBONES.card("scenes_vl").model_copy(
        update={"provides": frozenset({"in_place"}), "modalities": ("image",)}
    )
    whole = Registry.card
    monkeypatch.setattr(
        Registry, "card", lambda self, name: card if self is BACKBONES else whole(self, name)
    )
    message = refused(capsys, *RUN)
    assert "Method 'mp_ismoe' needs taps" in message
    assert "Task 'vqa' needs a backbone that reads text" in message


def test_a_device_that_does_not_exist(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = refused(capsys, *RUN, "--device", "cuda:99", "--output", str(tmp_path))
    assert "cuda:99" in message
    assert "cpu" in message


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--methods", "lst", "--tasks", "vqa", "--tune", "2"],
        ["ablate", "--method", "mp_ismoe", "--task", "vqa"],
    ],
    ids=lambda words: words[0],
)
def test_a_wrong_tracking_uri_costs_no_run(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    begun: list[object] = []
    monkeypatch.setattr("harness.tune.Tuner.__call__", lambda *given: begun.append(given))
    monkeypatch.setattr("harness.ablate.Ablation.run", begun.append)
    message = refused(capsys, *words, "--tracking-uri", "./mlruns", "--output", str(tmp_path))
    assert "--tracking-uri './mlruns'" in message
    assert begun == []


def test_an_unwritable_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert str(file) in refused(capsys, *RUN, "--output", str(file))
    assert file.read_text() == ""


def test_a_missing_dataset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    message = refused(capsys, *RUN, "--output", str(tmp_path))
    assert "easy_vqa" in message
    assert "pip install easy-vqa" in message


def test_weights_that_are_nowhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = refused(capsys, *RUN, "--weights", "nope", "--limit", "64", "--output", str(tmp_path))
    assert "--weights nope: there is no such folder. Leave it out for the bundled" in message


@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
def test_damaged_weights(damage: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(WEIGHTS, folder)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    {
        "flip": lambda: file.write_bytes(content),
        "cut": lambda: file.write_bytes(content[:1000]),
        "missing": file.unlink,
    }[damage]()
    words = ["--weights", str(folder), "--output", str(tmp_path / "out"), "--limit", "64"]
    message = refused(capsys, *RUN, *words)
    assert str(file) in message
    assert not list((tmp_path / "out").rglob("*.json"))


def test_a_truncated_image(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tasks.sources._read_bytes", lambda path: path.read_bytes()[:100])
    message = refused(capsys, *RUN, "--output", str(tmp_path), "--limit", "64")
    assert ".png" in message
    assert "truncated" in message
