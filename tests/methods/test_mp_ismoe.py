"""MP-ISMoE: the life of its low-bit backbone, and the experts in both hosts."""

import copy
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.methods import ProbedModel, TinyContext, build_method, snapshot, train_steps
from methods.experts.ismoe import ISMoE, mixtures
from methods.mp_ismoe import CARD, MpIsmoeConfig
from methods.quantization.modules import (
    QuantizedEmbedding,
    QuantizedLinear,
    distinct_weights,
)
from methods.side.layers import FeedForward


def fitted(epochs: int = 2, **settings):
    """Return a method after ``epochs`` of hooks and steps, with its context."""
    method = build_method("mp_ismoe", **settings)
    model = ProbedModel(method)
    context = TinyContext(model, tiny_inputs(method.backbone), epochs)
    method.on_fit_start(context)
    hashes = [method.backbone_state_hash()]
    for epoch in range(epochs):
        method.on_epoch_start(context, epoch)
        train_steps(model, context.inputs)
        hashes.append(method.backbone_state_hash())
    return method, context, hashes


def test_other_experts_on_the_same_seed_find_the_same_codes():
    hashes = []
    for experts in (2, 4):
        torch.manual_seed(0)
        hashes.append(fitted(bits=4, noise_scale=0.5, experts=experts)[2])
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 2


def test_every_quantisable_layer_is_low_bit_before_fitting():
    backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
    names = backbone.quantizable()
    method = build_method("mp_ismoe", backbone)
    kinds = {type(backbone.get_submodule(name)) for name in names}
    assert kinds == {QuantizedLinear, QuantizedEmbedding}
    assert not [m for m in backbone.modules() if isinstance(m, nn.Linear | nn.Embedding)]
    assert not any(p.requires_grad for p in method.backbone.parameters())


@pytest.mark.parametrize(("bits", "limit"), [(8, 0.02), (4, 0.3)])
def test_a_low_bit_backbone_says_nearly_the_same(bits, limit):
    backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
    inputs = tiny_inputs(backbone)
    plain = build_method("linear_probe", copy.deepcopy(backbone)).frozen(inputs)["joint"].output
    coarse = build_method("mp_ismoe", backbone, bits=bits).frozen(inputs)["joint"].output
    error = (plain - coarse).square().mean() / plain.square().mean()
    assert 0 < error < limit


@pytest.mark.parametrize(("epochs", "phases"), [(1, 1), (2, 1), (5, 1)])
def test_one_round_by_default_halfway(epochs, phases):
    _, context, hashes = fitted(epochs, bits=4, noise_scale=0.5)
    assert context.phases == ["requantize"] * phases
    changed = [a != b for a, b in pairwise(hashes)]
    assert changed.index(True) == epochs // 2
    assert sum(changed) == 1


def test_a_round_before_every_later_epoch_on_request():
    _, context, _ = fitted(3, requantize_every=1, accept="always", noise="random")
    assert context.phases == ["requantize"] * 2


def test_no_noise_no_round():
    _, context, hashes = fitted(noise="none")
    assert context.phases == []
    assert len(set(hashes)) == 1


def test_calibrated_first_codes_come_before_training():
    _, context, hashes = fitted(init="gptq", noise="none", bits=3)
    assert context.phases == ["init"]
    assert hashes[0] != build_method("mp_ismoe", init="gptq", bits=3).backbone_state_hash()


def test_a_selected_round_does_not_raise_the_error_of_the_outputs():
    method = build_method("mp_ismoe", bits=3)
    backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
    inputs = tiny_inputs(backbone)
    plain = build_method("linear_probe", backbone).frozen(inputs)["joint"].output

    def error() -> float:
        return (method.frozen(inputs)["joint"].output - plain).square().mean().item()

    before = error()
    context = TinyContext(ProbedModel(method), inputs, epochs=1)
    method.on_epoch_start(context, 0)
    assert error() < 1.2 * before


def test_rounds_change_codes_and_nothing_else_of_the_backbone():
    method = build_method("mp_ismoe", bits=4)
    before = snapshot(method.backbone)
    context = TinyContext(ProbedModel(method), tiny_inputs(method.backbone), epochs=1)
    method.on_epoch_start(context, 0)
    after = method.backbone.state_dict()
    changed = {name.rsplit(".", 1)[-1] for name in before if not after[name].equal(before[name])}
    assert "codes" in changed
    assert changed <= {"codes", "scale", "zero_point", "mse"}


@pytest.mark.parametrize("host", ["unipt", "lst"])
def test_experts_stand_where_the_host_had_its_network(host):
    method = build_method("mp_ismoe", host=host, experts=3, top_k=1)
    found = mixtures(method.network)
    assert len(found) == (3 if host == "unipt" else 3 * 2)  # a stream, or a block
    assert not [m for m in method.network.modules() if isinstance(m, FeedForward)]
    assert all(m.up.shape[0] == 3 for m in found)


@pytest.mark.parametrize(
    ("placement", "mixtures_of_three_streams"),
    [("aggregate", 3), ("per_tap", 3 * 2), ("per_tap_shared", 3), ("upsampled", 1)],
)
def test_placements_of_experts_in_a_parallel_network(placement, mixtures_of_three_streams):
    method = build_method("mp_ismoe", placement=placement)
    assert len(mixtures(method.network)) == mixtures_of_three_streams
    train_steps(ProbedModel(method), tiny_inputs(method.backbone))
    assert len(method.statistics()["expert_load"]) == mixtures_of_three_streams


@pytest.mark.parametrize("host", ["unipt", "lst", "sherl"])
def test_gnp_iq_alone_is_the_host_on_a_low_bit_backbone(host):
    method = build_method("mp_ismoe@gnp_iq", host=host)
    plain = build_method(host, reduction=method.config.reduction)
    assert not mixtures(method.network)
    assert shapes(method.network) == shapes(plain.network)
    assert {type(m) for m in method.quantized.values()} == {QuantizedLinear, QuantizedEmbedding}
    model = ProbedModel(method)
    context = TinyContext(model, tiny_inputs(method.backbone), epochs=2)
    method.on_epoch_start(context, 1)
    assert set(method.statistics()) == {"quantization_mse"}
    assert method.quality()["dead_experts"] == 0


def test_ismoe_alone_leaves_the_backbone_as_it_is():
    method = build_method("mp_ismoe@ismoe")
    untouched = TinyBackbone.build(TinyConfig(width=32, heads=4)).state_dict()
    found = method.backbone.state_dict()
    assert found.keys() == untouched.keys()
    assert all(torch.equal(found[name], untouched[name]) for name in found)
    model = ProbedModel(method)
    context = TinyContext(model, tiny_inputs(method.backbone), epochs=2)
    method.on_fit_start(context)
    method.on_epoch_start(context, 1)
    assert len(mixtures(method.network)) == 3
    assert "quantization_mse" not in method.quality()


def shapes(network: nn.Module) -> list[torch.Size]:
    return [p.shape for p in network.parameters()]


def test_parts_count_experts_apart():
    method = build_method("mp_ismoe")
    experts = {id(p) for m in method.modules() if isinstance(m, ISMoE) for p in m.parameters()}
    assert {id(p) for p in method.parts()["experts"]} == experts
    assert not experts & {id(p) for p in method.parts()["side"]}


def test_counted_norms_are_trainable_and_unchanged():
    method = build_method("mp_ismoe", train_norms="counted_no_grad")
    norms = method.parts()["norms"]
    before = [p.detach().clone() for p in norms]
    assert norms
    assert all(p.requires_grad for p in norms)
    train_steps(ProbedModel(method), tiny_inputs(method.backbone))
    assert all(torch.equal(a, b) for a, b in zip(before, norms, strict=True))


def test_history_and_quality_name_experts_and_error():
    method, *_ = fitted()
    statistics = method.statistics()
    assert set(statistics) == {"expert_load", "router_entropy", "quantization_mse"}
    assert len(statistics["expert_load"]) == 3
    quality = method.quality()
    assert set(quality) == {"quantization_mse", "layer_quantization_mse", "dead_experts"}
    assert quality["quantization_mse"] > 0
    assert list(quality["layer_quantization_mse"]) == list(distinct_weights(method.quantized))
    assert min(quality["layer_quantization_mse"].values()) > 0
    assert set(method.host_bytes()) == {"masters", "calibration"}
    assert method.host_bytes()["calibration"] > 0


def test_state_survives_a_file_format(tmp_path):
    from safetensors.torch import load_file, save_file

    method, *_ = fitted(bits=4)
    save_file(method.extra_state(), tmp_path / "state.safetensors")
    other = build_method("mp_ismoe", bits=4)
    assert other.backbone_state_hash() != method.backbone_state_hash()
    other.load_extra_state(load_file(tmp_path / "state.safetensors"))
    assert other.backbone_state_hash() == method.backbone_state_hash()


def test_the_same_seed_gives_the_same_codes():
    hashes = [fitted(bits=4, noise_scale=0.3)[2] for _ in range(2)]
    assert hashes[0] == hashes[1]


def test_all_settings_are_on_one_level():
    fields = set(MpIsmoeConfig.model_fields)
    assert {"bits", "experts", "top_k", "noise_scale", "host", "reduction", "layers"} <= fields
    assert set(CARD.presets) >= {"literal", "no_noise", "no_correlation"}


@pytest.mark.parametrize(
    "settings",
    [
        {"bits": 5},
        {"experts": 0},
        {"experts": 2, "top_k": 3},
        {"sample_percent": 101},
        {"host": "lst", "placement": "per_tap"},
        {"mixture": False, "placement": "per_tap"},
        {"bits": None, "embedding_bits": None},
        {"bits": None, "embedding_bits": None, "noise": "none", "init": "gptq"},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        MpIsmoeConfig(**settings)
