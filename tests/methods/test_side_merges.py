"""The merges of side-tuning against their equations, where they start and what they train."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.contracts import MethodContract
from harness.testing.methods import ProbedModel, build_method, train_steps
from methods.side_tuning import SideTuningConfig
from methods.side_tuning.model import make_merge

MERGES = get_args(SideTuningConfig.model_fields["merge"].annotation)
WIDTH = 32


@pytest.fixture(scope="class", params=["film", "mlp"])
def merge_name(request):
    request.cls.merge = request.param


@pytest.mark.usefixtures("merge_name")
class TestMergesThatTrain(MethodContract):
    name = "side_tuning"

    def build(self, **options):
        return super().build(merge=self.merge, **options)


def array(tensor):
    return tensor.detach().numpy()


def reference(name, merge, base, side):
    """The equations in numpy, by matrices alone."""
    if name == "blend":
        a = 1 / (1 + np.exp(-array(merge.alpha) / 0.5))
        return a * base + (1 - a) * side
    if name == "sum":
        return base + side
    if name == "product":
        return base + base * side
    reads = side if name == "film" else base
    hidden = np.maximum(reads @ array(merge.hidden.weight).T + array(merge.hidden.bias), 0)
    if name == "mlp":
        return base + side + hidden @ array(merge.output.weight).T + array(merge.output.bias)
    factor = 1 + hidden @ array(merge.factor.weight).T + array(merge.factor.bias)
    shift = side + hidden @ array(merge.shift.weight).T + array(merge.shift.bias)
    return factor * base + shift


@pytest.mark.parametrize("name", MERGES)
@settings(max_examples=15)
@given(width=st.integers(1, 7), seed=st.integers(0, 1000))
def test_a_merge_is_its_equation(name, width, seed):
    torch.manual_seed(seed)
    merge = make_merge(SideTuningConfig(merge=name, temperature=0.5), width).double()
    for parameter in merge.parameters():
        nn.init.normal_(parameter)
    base, side = torch.randn(2, 2, 3, width, dtype=torch.float64)
    expected = reference(name, merge, base.numpy(), side.numpy())
    assert np.allclose(array(merge(base, side)), expected, atol=1e-12)


@pytest.mark.parametrize("name", MERGES)
def test_both_outputs_and_every_parameter_get_a_gradient(name):
    torch.manual_seed(0)
    merge = make_merge(SideTuningConfig(merge=name), WIDTH)
    for parameter in merge.parameters():
        nn.init.normal_(parameter)
    base, side = torch.randn(2, 2, 3, WIDTH, requires_grad=True).unbind()
    base.retain_grad(), side.retain_grad()
    merge(base, side).square().sum().backward()
    for tensor in (base, side, *merge.parameters()):
        assert tensor.grad.abs().sum() > 0


def test_what_each_merge_adds_to_the_count():
    sizes = {
        name: sum(p.numel() for p in build_method("side_tuning", merge=name).parts()["side"])
        for name in MERGES
    }
    added = {name: size - sizes["sum"] for name, size in sizes.items()}
    layer = WIDTH * WIDTH + WIDTH
    assert added == {"blend": 1, "sum": 0, "product": 0, "film": 3 * layer, "mlp": 2 * layer}


@pytest.mark.parametrize("name", ["sum", "product", "film", "mlp"])
def test_a_merge_starts_near_the_base(name):
    backbone = TinyBackbone.build(TinyConfig(width=WIDTH, heads=4))
    method = build_method("side_tuning", backbone, merge=name).eval()
    states = method.frozen(tiny_inputs(backbone))
    with torch.no_grad():
        side = method.network(states, backbone)["joint"]
        merged = method.side(states)["joint"].output
    base = states["joint"].output
    assert torch.allclose(merged, base, atol=0.3)
    if name in ("film", "mlp"):
        assert torch.allclose(merged, base + side, atol=1e-6)


@pytest.mark.parametrize("name", MERGES)
def test_a_merge_can_learn(name):
    model = ProbedModel(build_method("side_tuning", merge=name))
    inputs = tiny_inputs(model.method.backbone)
    before = model.loss(inputs).item()
    train_steps(model, inputs, steps=15)
    assert model.loss(inputs).item() < 0.7 * before
    for merge in model.method.merges.values():
        assert all(p.abs().sum() > 0 for p in merge.parameters())
