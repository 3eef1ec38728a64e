"""What the memory commands refuse, and what they say instead."""

import json
from pathlib import Path

import pytest

from harness.cli import execute

SMALL = ["--backbone", "t5", "--set", "backbone.layers=1", "--source-length", "8"]
FIT = ["fit", "--method", "lst", *SMALL, "--batch-size", "2", "--budget"]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run ``harness memory`` and return its code and what went to stderr."""
    code = execute(["memory", *words])
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return code, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["predict", "--method", "lst", *SMALL, "--set", "train.batch_size=2"],
            "--set train.batch_size=2: the rows of this step are --batch-size 2.",
        ),
        (["predict", "--method", "lst", *SMALL, "--amp", "auto"], "write off or bf16"),
        (["table", "--backbone", "t5", "--methods", "lts"], "Did you mean 'lst'?"),
        (["table", "--backbone", "t5", "--methods", "lst,,full"], "names with commas"),
        (["measure", "--backbone", "t5", "--methods", "lts,ful"], "Did you mean 'full'?"),
        (
            [*FIT, "1GiB"],
            "--batch-size 2: it is what is made as large as fits.",
        ),
        (
            [*FIT, "1MiB", "--vary", "method.reduction"],
            "It needs less with a larger method.reduction",
        ),
        (
            [*FIT, "1GiB", "--vary", "train.epochs"],
            "train.epochs: 17 needs no more memory than 1",
        ),
    ],
)
def test_what_would_be_passed_over_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = said(capsys, *words)
    assert code == 2
    assert message in err


def test_the_largest_value_may_be_the_largest_that_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--method", "mp_ismoe", *SMALL, "--batch-size", "2", "--vary", "method.top_k"]
    assert execute(["memory", "fit", "--budget", "1GiB", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 4


def test_a_picture_of_another_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = said(capsys, "timeline", "0", "--to", "x.gif", "--output", str(tmp_path))
    assert code == 2
    assert "--to x.gif: a picture's file ends in .png or .svg" in err
