"""A study that is killed again and again ends in the report of one that was left alone."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.record import RecordStore
from harness.study import Study, read_study
from harness.testing.runs import small_request

KILLS = 4
SMALL = ("train.epochs=2", "memory.profile=false")
AXES = "axes:\n  method.experts: [1, 2]\n  method.bits: [8, 2]\nsettings: {method.top_k: 1}\n"


def command(folder: Path, output: Path) -> list[str]:
    request = small_request("mp_ismoe", *SMALL)
    settings = [word for text in request.overrides for word in ("--set", text)]
    words = ["--study", str(folder / "few.yaml"), "--weights", "random", "--limit", "32"]
    place = ["--workers", "2", "--tracking-uri", "off", "--output", str(output)]
    return [sys.executable, "-m", "harness", "ablate", "-q", *words, *settings, *place]


def outcome(output: Path) -> tuple[Study, dict[str, object]]:
    (path,) = (output / "studies").glob("*.json")
    study = read_study(path)
    ordered = sorted(study.cells, key=lambda cell: str(cell.point))
    cores = {record.run_key: record.core() for record in RecordStore(output)}
    return study.model_copy(update={"cells": tuple(ordered)}), cores


@pytest.mark.slow
def test_a_killed_study_ends_in_the_same_report(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(AXES)
    draw = random.Random(0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(tmp_path, whole), check=True, capture_output=True)
    for _ in range(KILLS):
        process = subprocess.Popen(
            command(tmp_path, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(draw.uniform(3, 25))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    subprocess.run(command(tmp_path, killed), check=True, capture_output=True)
    assert outcome(killed) == outcome(whole)
