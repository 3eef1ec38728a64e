"""Precision that depends on the device is settled before the run's identity is."""

import pytest
import torch

from harness import precision, processor
from harness.config import RunConfig, RunRequest, resolve
from harness.precision import autocast, settle_precision
from harness.processor import native_bf16

CPU = torch.device("cpu")


def config(amp: str | None) -> RunConfig:
    return resolve(RunRequest(method="mp_ismoe", task="vqa", amp=amp))


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "off")])
def test_auto_is_bf16_where_the_device_computes_it(native, expected, monkeypatch):
    monkeypatch.setattr(precision, "native_bf16", lambda device: native)
    asked = config(None)
    assert asked.train.amp == "auto"
    settled = settle_precision(asked, CPU)
    assert settled.train.amp == expected
    assert settled.resolved()["train"]["amp"] == expected
    assert settled.method == asked.method


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_what_was_typed_stays(amp, monkeypatch):
    monkeypatch.setattr(precision, "native_bf16", lambda device: amp == "off")
    assert settle_precision(config(amp), CPU).train.amp == amp


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512dq avx512bw avx512vl\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("flags\t\t: fpu avx2\n", False),
        ("flags\t\t: fpu avx2 avx_vnni\n", None),
        ("Features\t: fp asimd bf16\n", True),
        ("Features\t: fp asimd\n", False),
        ("cpu\t\t: POWER9\n", None),
        (None, None),
    ],
)
def test_native_bf16_is_told_by_the_processors_flags(cpuinfo, expected, monkeypatch, tmp_path):
    file = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        file.write_text(f"processor\t: 0\n{cpuinfo}")
    monkeypatch.setattr(processor, "CPUINFO", file)
    assert native_bf16.__wrapped__() is expected


def test_the_flags_say_what_pytorch_says():
    assert native_bf16() in (None, torch.ops.mkldnn._is_mkldnn_bf16_supported())


@pytest.mark.parametrize("known", [True, False])
def test_a_run_settles_as_the_records_are_searched(known, monkeypatch):
    monkeypatch.setattr(processor, "native_bf16", lambda: known)
    assert precision.native_bf16(CPU) is known


def test_the_processor_is_asked():
    assert precision.native_bf16(CPU) in (True, False)
    with autocast(CPU, config("bf16").train):
        assert torch.is_autocast_enabled("cpu")
    with autocast(CPU, config("off").train):
        assert not torch.is_autocast_enabled("cpu")
