"""What is killed again and again ends in the report of what was left alone."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.groups import Group, load_groups
from harness.record import RecordStore
from harness.study import Study, read_study
from harness.testing.runs import small_request

KILLS = 4
SMALL = ("train.epochs=2", "memory.profile=false")
AXES = "axes:\n  method.experts: [1, 2]\n  method.bits: [8, 2]\nsettings: {method.top_k: 1}\n"


STUDIES = {
    "ablate": ("--study", "few.yaml"),
    "table": ("--study", "paper-table-3", "--seeds", "2"),
}
COMPARED = ("--methods", "linear_probe,lst,mp_ismoe", "--tasks", "vqa", "--seeds", "2")


def command(asked: str, output: Path) -> list[str]:
    """Return a study of two axes, the paper's third table, or a comparison, on few rows."""
    overrides = small_request("mp_ismoe", *SMALL).overrides
    settings = [word for text in overrides for word in ("--set", text)]
    words = ["compare", *COMPARED] if asked == "compare" else ["ablate", *STUDIES[asked]]
    place = ["--workers", "2", "--tracking-uri", "off", "--output", str(output)]
    small = ["--weights", "random", "--limit", "32", "-q"]
    return [sys.executable, "-m", "harness", *words, *small, *settings, *place]


def outcome(output: Path) -> tuple[list[Study], list[Group], dict[str, object]]:
    studies = [read_study(path) for path in sorted((output / "studies").glob("*.json"))]
    ordered = [
        study.model_copy(
            update={"cells": sorted(study.cells, key=lambda c: (str(c.point), c.seed))}
        )
        for study in studies
    ]
    cores = {record.run_key: record.core() for record in RecordStore(output)}
    return ordered, list(load_groups(output)), cores


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["ablate", "table", "compare"])
def test_what_is_killed_ends_in_the_same_report(asked: str, tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(AXES)
    draw = random.Random(0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(asked, whole), check=True, capture_output=True, cwd=tmp_path)
    for _ in range(KILLS):
        process = subprocess.Popen(
            command(asked, killed),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        try:
            process.wait(draw.uniform(3, 25))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    subprocess.run(command(asked, killed), check=True, capture_output=True, cwd=tmp_path)
    assert outcome(killed) == outcome(whole)
    names = ("report.*", "study.*")
    reports = [sorted(p.name for n in names for p in out.rglob(n)) for out in (whole, killed)]
    assert reports[0] == reports[1] != []
