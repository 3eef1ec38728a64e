"""Compiled steps: the numbers of eager ones, and a compiler where one is needed."""

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.compilation import COMPILERS
from harness.config import RunConfig, resolve
from harness.errors import UserError
from harness.record import Record
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.runs import small_request

no_compiler = not any(map(shutil.which, COMPILERS))


def config(method: str, *overrides: str) -> RunConfig:
    small = ("train.epochs=1", "memory.profile=false", *overrides)
    return resolve(small_request(method, *small))


def made(method: str, output: Path, *overrides: str) -> Record:
    options = RunOptions(output=output, tracking_uri="off", verbosity=-1)
    return run(config(method, *overrides), options)


def test_without_a_compiler_the_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"train\.compile=true.*C\+\+ compiler.*g\+\+, clang\+\+"):
        made("linear_probe", tmp_path, "train.compile=true")


def test_a_compiled_run_is_another_run_with_the_same_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the graphs are captured, and run as they are: no compiler is needed."""
    monkeypatch.setattr("harness.runner.check_compiler", lambda *_: None)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    eager = made("linear_probe", tmp_path)
    compiled = made("linear_probe", tmp_path, "train.compile=true")
    assert compiled.run_key != eager.run_key
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-5)
    assert eager.time
    assert compiled.time
    assert eager.time.compile_seconds is None
    assert compiled.time.compile_seconds is not None


@pytest.mark.slow
@pytest.mark.skipif(no_compiler, reason="needs a C++ compiler")
@pytest.mark.parametrize("method", ["full", "lst", "mp_ismoe"])
def test_compiled_code_gives_the_same_losses(method: str, tmp_path: Path) -> None:
    eager = made(method, tmp_path)
    compiled = made(method, tmp_path, "train.compile=true")
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-3)


def losses(record: Record) -> list[Any]:
    return [row.loss for row in record.history]
