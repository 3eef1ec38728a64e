"""``--launcher``: what is understood, and what is refused with one message."""

import pytest

import harness
from harness import run_options
from harness.cli import execute
from harness.errors import UserError
from harness.run_options import check_launcher

COMPARE = ("compare", "--methods", "lst", "--tasks", "vqa")
ABLATE = ("ablate", "--method", "mp_ismoe", "--task", "vqa")


@pytest.mark.parametrize("verb", [COMPARE, ABLATE], ids=["compare", "ablate"])
@pytest.mark.parametrize("typed", ["rai", "ray://", "ray://host", "ray:host:1", "Local", ""])
def test_a_wrong_launcher_is_one_message(
    verb: tuple[str, ...], typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute((*verb, "--launcher", typed)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"Error: --launcher '{typed}': write local, ray or ray://HOST:PORT.\n"


@pytest.mark.parametrize("typed", ["ray", "ray://head.example.org:10001"])
def test_without_ray_the_message_says_how_to_get_it(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_options, "find_spec", lambda _: None)
    assert check_launcher("local") == "local"
    with pytest.raises(UserError, match=r"needs the package 'ray'.*pip install .*\[ray\]"):
        check_launcher(typed)
    monkeypatch.setattr(run_options, "find_spec", lambda _: object())
    assert check_launcher(typed) == typed


def test_python_is_told_the_same() -> None:
    with pytest.raises(UserError, match="--launcher 'rai': write local"):
        harness.compare("lst", "vqa", launcher="rai")
