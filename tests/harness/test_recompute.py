"""Gradient checkpointing changes memory and nothing else."""

import copy
from pathlib import Path

import pytest
import torch

from harness.cards import BACKBONES
from harness.config import RunRequest, resolve
from harness.errors import ConfigError
from harness.recompute import recompute_blocks
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.methods import ProbedModel, build_method
from harness.testing.runs import small_request
from harness.testing.small import random_inputs, small_backbone

TEXTS = ["is there a red circle?", "no"]


@pytest.mark.parametrize("name", BACKBONES.names())
@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_gradients_are_the_same_and_less_is_saved(name, method):
    backbone = small_backbone(name)
    plain = ProbedModel(build_method(method, backbone, backbone.paper_reads))
    saving = copy.deepcopy(plain)
    recompute_blocks(saving.method.backbone)
    inputs = random_inputs(backbone, TEXTS)
    saved = [_saved_numbers(model, inputs) for model in (plain, saving)]
    assert saved[1] < saved[0]
    gradients = [{n: p.grad for n, p in m.named_parameters()} for m in (plain, saving)]
    assert gradients[0].keys() == gradients[1].keys()
    for parameter, gradient in gradients[0].items():
        other = gradients[1][parameter]
        assert (gradient is None) == (other is None)
        assert gradient is None or torch.allclose(gradient, other, atol=1e-6)


def _saved_numbers(model: ProbedModel, inputs) -> int:
    """Return how many numbers autograd holds after the forward pass."""
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)  # of LoRA's dropout
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.loss(inputs)
    total = sum(held.values())
    loss.backward()
    return total


def test_a_run_needs_less_memory_and_learns_the_same(tmp_path: Path):
    records = [
        run(
            resolve(
                small_request(
                    "full", "train.epochs=1", "backbone.joint_layers=4", grad_checkpoint=checkpoint
                )
            ),
            RunOptions(output=tmp_path, tracking_uri="off", verbosity=-1),
        )
        for checkpoint in (None, True)
    ]
    peaks = [record.memory.train_peak_bytes for record in records]
    assert peaks[1] < 0.8 * peaks[0]
    predicted = records[1].memory.predicted_train_peak_bytes
    assert 0 <= peaks[1] - predicted <= 0.005 * peaks[1]
    losses = [record.history[0].loss for record in records]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_method_without_backbone_gradients_is_told_so():
    with pytest.raises(ConfigError, match="no backward pass of method 'lst'"):
        resolve(RunRequest(method="lst", task="vqa", grad_checkpoint=True))
