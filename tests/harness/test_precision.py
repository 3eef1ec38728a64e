"""Precision that depends on the device is settled before the run's identity is."""

import pytest
import torch

from harness import precision
from harness.config import RunConfig, RunRequest, resolve
from harness.precision import autocast, settle_precision

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


def test_the_processor_is_asked():
    assert precision.native_bf16(CPU) in (True, False)
    with autocast(CPU, config("bf16").train):
        assert torch.is_autocast_enabled("cpu")
    with autocast(CPU, config("off").train):
        assert not torch.is_autocast_enabled("cpu")
