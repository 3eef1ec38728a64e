import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from harness.checkpoint import (
    load_optimizer,
    load_tensors,
    load_trained,
    optimizer_tensors,
    prefixed,
    save_tensors,
    trained_tensors,
    unprefixed,
)
from harness.errors import UserError


def trained_once(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_full_disk_is_the_systems_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space (os error 28)")

    monkeypatch.setattr("harness.checkpoint.save_file", full)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is what counts
        save_tensors(tmp_path / "checkpoint.safetensors", {}, {})
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_tensors_and_state_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).view(2, 3), "b.c": torch.zeros(0)}
    save_tensors(tmp_path / "x" / "file.safetensors", tensors, {"epoch": 3, "loss": 0.5})
    loaded, state = load_tensors(tmp_path / "x" / "file.safetensors")
    assert state == {"epoch": 3, "loss": 0.5}
    assert set(loaded) == set(tensors)
    assert all(torch.equal(loaded[n], tensors[n]) for n in tensors)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.safetensors"
    save_tensors(path, {"a": torch.ones(1)}, {})
    before = path.read_bytes()
    monkeypatch.setattr("harness.checkpoint.os.replace", lambda *_: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):  # noqa: PT011
        save_tensors(path, {"a": torch.zeros(1)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"file\.safetensors is damaged"):
        load_tensors(path)


def test_only_trained_parameters_are_kept_and_must_fit() -> None:
    model, _ = trained_once(0)
    tensors = trained_tensors(model)
    assert set(tensors) == {"1.weight", "1.bias"}
    other, _ = trained_once(1)
    load_trained(other, tensors)
    assert torch.equal(other[1].weight, model[1].weight)
    with pytest.raises(UserError, match="do not fit"):
        load_trained(other, {"1.weight": tensors["1.weight"]})


def test_the_optimizer_goes_on_as_if_it_had_not_stopped() -> None:
    model, optimizer = trained_once(0)
    copy, fresh = trained_once(1)
    load_trained(copy, trained_tensors(model))
    copy[0].load_state_dict(model[0].state_dict())
    load_optimizer(fresh, optimizer_tensors(optimizer))
    x = torch.randn(5, 3)
    for one, its_optimizer in ((model, optimizer), (copy, fresh)):
        its_optimizer.zero_grad()
        one(x).square().sum().backward()
        its_optimizer.step()
    assert torch.equal(model[1].weight, copy[1].weight)


def test_prefixes_are_undone() -> None:
    tensors = {"a.b": torch.ones(1), "c": torch.ones(2)}
    merged = {**prefixed("x", tensors), **prefixed("y", {"z": torch.zeros(1)})}
    assert unprefixed("x", merged) == tensors
