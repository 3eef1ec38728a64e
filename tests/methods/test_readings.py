"""The readings of what MP-ISMoE's paper leaves open: each is a setting, and each changes something.

What other files show is not shown again: rounding and ranges in ``test_quantization_grid``, noise,
acceptance and masters in ``test_quantization_requantize``, routing in ``test_experts``.
"""

from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError

from harness.cards import METHODS
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.methods import ProbedModel, TinyContext, build_method, train_steps
from harness.testing.small import random_inputs, small_backbone
from methods.experts.config import ExpertsConfig
from methods.experts.ismoe import mixtures
from methods.experts.routing import Correlation, Router, normalise
from methods.mp_ismoe import MpIsmoeConfig
from methods.quantization.config import QuantizationConfig
from methods.quantization.grid import GridSpec, dequantize, fit_grid, quantize
from methods.quantization.modules import storage_bytes

READINGS: dict[str, dict[str, tuple[Any, ...]]] = {
    "rounding (Eq. 1)": {"rounding": ("nearest", "floor")},
    "range (Eq. 2)": {"range": ("include_zero", "literal", "float_min")},
    "granularity": {"granularity": ("per_output_channel", "per_tensor", "group")},
    "quantised tensors": {"embedding_bits": (8, None)},
    "bits": {"bits": (8, 4, 3, 2)},
    "what p counts": {"sample_unit": ("groups", "tensors", "layers", "codes")},
    "p and M": {"sample_percent": (1, 50), "requantize_every": (None, 1, 5)},
    "which tensors": {"tensors": ("weights", "all")},
    "the master": {"master": ("file", "none"), "accumulate": (False, True)},
    "acceptance": {"accept": ("improve", "always")},
    "learned noise": {"noise": ("select", "random", "moment", "layer_recon", "spsa", "weight_mse")},
    "granularity of noise": {"noise": ("mu_tensor", "mu_channel", "mu_weight")},
    "trained norms": {"train_norms": ("side_copy", "none", "counted_no_grad")},
    "Norm (Eq. 7)": {"correlation_norm": ("cosine", "dot", "l1", "minmax", "l2", "zscore")},
    "width of r": {"correlation_width": ("backbone", "side")},
    "what correlates": {"correlation": ("salient", "off", "constant", "shuffled")},
    "token of h0": {"salient_token": ("backbone", "first", "mean")},
    "layer of h0": {"salient_layer": ("tap", "last", "embedding")},
    "second softmax": {"router_weight": ("auto", "renorm", "switch", "resoftmax", "raw")},
    "k and N": {"top_k": (1, 2, 4), "experts": (4, 8)},
    "first experts": {"expert_init": ("auto", "replicate", "independent"), "jitter": (0, 0.05)},
    "load balance": {"load_balance": (0, 1e-2)},
    "place of experts": {"placement": ("aggregate", "per_tap", "per_tap_shared", "upsampled")},
    "host": {"host": ("unipt", "sherl", "lst")},
    "expert width": {"expert_hidden": ("4m", "m", "d", 24)},
    "dispatch": {"dispatch": ("sparse", "dense")},
    "merge with the backbone": {"join": ("none", "gate", "add")},
    "norms of a side block": {"block_norm": ("stream", "pre", "post")},
    "remedies beside noise": {
        "clip": ("none", "mse", "output"),
        "bias_correction": (False, True),
        "init": ("rtn", "gptq"),
    },
}


@pytest.mark.parametrize("reading", READINGS)
def test_every_reading_is_a_setting_whose_first_value_is_the_default(reading):
    defaults = MpIsmoeConfig().model_dump()
    for name, values in READINGS[reading].items():
        assert all(getattr(MpIsmoeConfig(**{name: v}), name) == v for v in values)
        if name not in ("sample_percent", "top_k", "noise", "expert_hidden", "jitter"):
            assert defaults[name] == values[0]


def error(weight: torch.Tensor, granularity: str, keep: slice) -> float:
    """Mean squared error at 8 bits of the rows ``keep``."""
    config = QuantizationConfig(granularity=granularity, group_size=32)
    spec = GridSpec.from_config(config, 8)
    groups = weight.reshape(spec.groups(*weight.shape))
    grid = fit_grid(groups, spec)
    values = dequantize(quantize(groups, grid, spec), grid, spec, torch.float32)
    return float((values.view_as(weight) - weight)[keep].square().mean())


def test_finer_groups_keep_an_outlier_to_itself():
    weight = torch.randn(16, 128, generator=torch.Generator().manual_seed(0)) * 0.02
    weight[0, 0] = 10
    others, own_row = slice(1, None), slice(0, 1)
    tensor, channel, group = (
        lambda rows, g=g: error(weight, g, rows)
        for g in ("per_tensor", "per_output_channel", "group")
    )
    assert channel(others) < tensor(others) / 100
    assert group(own_row) < channel(own_row) / 2


def test_the_embedding_is_low_bit_or_not():
    low, full = (build_method("mp_ismoe", embedding_bits=b) for b in (8, None))
    assert "token_embedding" in low.quantized
    assert "token_embedding" not in full.quantized
    assert len(low.quantized) == len(full.quantized) + 1


@pytest.mark.parametrize(
    ("name", "reads"),
    [("bert", ("text",)), ("t5", ("decoder",)), ("scenes_vl", ("joint",)), ("vse", ("text",))],
)
def test_all_but_norms_become_low_bit(name, reads):
    def built(tensors):
        torch.manual_seed(0)
        return build_method("mp_ismoe", small_backbone(name), reads, tensors=tensors).eval()

    weights, everything = built("weights"), built("all")
    left = dict(everything.backbone.named_parameters())
    norms = {n for spec in everything.backbone.specs for n in everything.backbone.norms(spec.name)}
    biases = {n for n in left if n.endswith(".bias") and n.removesuffix(".bias") not in norms}
    assert not [n for n in biases if n.removesuffix(".bias") in everything.quantized]
    assert not [n for n in left if n.removesuffix(".weight") in everything.quantized]
    assert set(everything.quantized) >= {
        *weights.quantized,
        *everything.backbone.position_embeddings(),
    }
    codes, fewer = (storage_bytes(m.quantized)["quantized_weights"] for m in (everything, weights))
    assert codes > fewer
    assert everything.backbone_state_hash() != weights.backbone_state_hash()
    inputs = random_inputs(everything.backbone, ["a shape", "two"])
    with torch.no_grad():
        found, expected = (m.frozen(inputs)[reads[0]].output for m in (everything, weights))
    assert 0 < (found - expected).norm() < 0.05 * expected.norm()


def test_all_codes_survive_saving():
    def built():
        return build_method("mp_ismoe", small_backbone("bert"), ("text",), tensors="all").eval()

    torch.manual_seed(0)
    method = built()
    copy = built()
    copy.load_extra_state(method.extra_state())
    assert copy.backbone_state_hash() == method.backbone_state_hash()
    assert any(name.endswith(".bias.codes") for name in method.extra_state())


@pytest.mark.parametrize("noise", ["mu_tensor", "mu_channel", "mu_weight"])
def test_learned_means_have_the_granularity_they_are_named_for(noise):
    settings = {"bits": 3, "sample_percent": 100, "accept": "always", "noise_steps": 2}
    method = build_method("mp_ismoe", noise=noise, **settings)
    context = TinyContext(ProbedModel(method), tiny_inputs(method.backbone), epochs=1)
    method.on_epoch_start(context, 0)
    name = "streams.joint.0.ffn.up"
    mean = method.extra_state()[f"{name}.noise.mean"]
    if noise == "mu_weight":
        assert mean.isnan().all()  # a value per weight is not kept
        return
    master = TinyBackbone.build(TinyConfig(width=32, heads=4)).get_submodule(name).weight.detach()
    steps = mean / fit_grid(master, GridSpec.from_config(method.config, 3)).scale
    assert (steps.std() < 1e-4) == (noise == "mu_tensor")


@pytest.mark.parametrize(
    ("train_norms", "trained", "in_network"),
    [("side_copy", True, True), ("none", False, False), ("counted_no_grad", True, False)],
)
def test_norms_train_as_copies_or_are_only_counted(train_norms, trained, in_network):
    method = build_method("mp_ismoe", train_norms=train_norms)
    assert bool(method.parts()["norms"]) == trained
    assert bool(len(method.network.norms)) == in_network
    ProbedModel(method).loss(tiny_inputs(method.backbone)).backward()
    got_gradient = [p.grad is not None for p in method.parts()["norms"]]
    assert all(got_gradient) == (train_norms != "counted_no_grad")


def test_late_norms_train_in_the_block_that_sherl_runs_with_gradients():
    method = build_method("mp_ismoe@sherl", train_norms="late_only")
    last = method.backbone.blocks("joint")[-1]
    late = {n for n, p in method.backbone.named_parameters() if p.requires_grad}
    assert late
    assert all(name.startswith(f"{last}.") for name in late)
    ProbedModel(method).loss(tiny_inputs(method.backbone)).backward()
    gradients = {n for n, p in method.backbone.named_parameters() if p.grad is not None}
    assert gradients == late
    with pytest.raises(ValidationError, match="late_only is of host=sherl; host=unipt"):
        MpIsmoeConfig(train_norms="late_only")
    with pytest.raises(ValidationError, match="join=gate lets in as the frozen one"):
        MpIsmoeConfig(train_norms="late_only", host="sherl", join="gate")
    with pytest.raises(ValidationError, match="hidden state that salient_layer=last takes"):
        MpIsmoeConfig(train_norms="late_only", host="sherl", salient_layer="last")


def test_sherl_always_trains_the_norm_that_it_ends_in():
    with pytest.raises(ValidationError, match="its network ends in a new norm"):
        MpIsmoeConfig(train_norms="none", host="sherl")


SCORES = torch.tensor([[1.0, -2.0, 0.5, 3.0]], dtype=torch.float64)
NORMED = {
    "dot": SCORES.softmax(-1),
    "l1": SCORES.clamp(min=0) / 4.5,
    "minmax": (SCORES + 2) / 10.5,
    "l2": SCORES**2 / 14.25,
    "zscore": ((SCORES - 0.625) / SCORES.std(correction=0)).softmax(-1),
}


@pytest.mark.parametrize("norm", NORMED)
def test_each_norm_of_the_correlation_is_its_formula(norm):
    assert torch.allclose(normalise(SCORES, norm), NORMED[norm], atol=1e-5)


def test_the_cosine_ignores_the_length_of_the_salient_token():
    torch.manual_seed(0)
    h0 = torch.randn(3, 16)
    for norm, same in (("cosine", True), ("dot", False)):
        correlation = Correlation(ExpertsConfig(correlation_norm=norm), 8, 16)
        with torch.no_grad():
            assert torch.allclose(correlation(h0), correlation(50 * h0), atol=1e-4) == same


@pytest.mark.parametrize(("width", "size"), [("backbone", 16), ("side", 8)])
def test_keys_have_the_width_that_is_asked_for(width, size):
    correlation = Correlation(ExpertsConfig(correlation_width=width), 8, 16)
    assert correlation.keys.shape == (4, size)


@pytest.mark.parametrize(
    ("settings", "same_as_default"),
    [
        ({"salient_token": "first"}, True),  # the joint stream's salient token is its first
        ({"salient_token": "mean"}, False),
        ({"salient_layer": "last"}, False),
        ({"salient_layer": "embedding"}, False),
    ],
)
def test_the_salient_token_reaches_the_experts(settings, same_as_default):
    def seen(**values: Any) -> torch.Tensor:
        backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
        method = build_method("mp_ismoe@lst", backbone, **values)
        tokens: list[torch.Tensor] = []
        mixtures(method.network.streams["joint"])[0].register_forward_pre_hook(
            lambda _, inputs: tokens.append(inputs[1])
        )
        method(tiny_inputs(backbone))
        return tokens[0]

    assert torch.equal(seen(), seen(**settings)) == same_as_default


def test_a_second_softmax_flattens_the_weights():
    def highest(weighting: str) -> float:
        router = Router(ExpertsConfig(router_weight=weighting, correlation="off"), 8, 16)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            router.logits.weight.copy_(torch.randn(4, 8, generator=generator) * 3 / 8**0.5)
            choice = router(torch.randn(64, 32, 8, generator=generator), torch.zeros(64, 16))
        return float(choice.weights.amax(-1).mean())

    assert highest("resoftmax") < highest("renorm") - 0.1
    assert highest("raw") == pytest.approx(highest("renorm"), abs=1e-5)  # without c they agree


def test_a_temperature_flattens_the_router():
    entropies = []
    for temperature in (0.5, 1.0, 4.0):
        torch.manual_seed(0)
        router = Router(ExpertsConfig(router_temperature=temperature), 8, 16)
        with torch.no_grad():
            router.logits.weight.normal_()
            scores = router(torch.randn(2, 5, 8), torch.randn(2, 16)).scores
        entropies.append(float(-(scores * scores.log()).sum(-1).mean()))
    assert entropies == sorted(entropies)


@pytest.mark.parametrize("join", ["gate", "add"])
def test_the_frozen_output_joins_the_result(join):
    backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
    method = build_method("mp_ismoe", backbone, join=join).eval()
    states = method.frozen(tiny_inputs(backbone))
    with torch.no_grad():
        method.merges["joint"].get_parameter("alpha" if join == "gate" else "gate").fill_(0.05)
        side = method.network(states, backbone)["joint"]
        merged = method.side(states)["joint"].output
    frozen = states["joint"].output
    share = torch.sigmoid(torch.tensor(0.5)) if join == "gate" else None
    expected = side + 0.05 * frozen if share is None else share * side + (1 - share) * frozen
    assert torch.allclose(merged, expected, atol=1e-5)


@pytest.mark.parametrize(("norm", "first"), [("stream", True), ("pre", True), ("post", False)])
def test_side_blocks_have_their_norms_first_or_last(norm, first):
    method = build_method("mp_ismoe@lst", block_norm=norm)
    assert {b.pre_norm for s in method.network.streams.values() for b in s.blocks} == {first}


def test_dense_dispatch_says_the_same_as_sparse():
    backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
    inputs = tiny_inputs(backbone)
    outputs = []
    for dispatch in ("sparse", "dense"):
        method = build_method("mp_ismoe", dispatch=dispatch).eval()
        with torch.no_grad():
            outputs.append(method(inputs)["joint"].output)
    assert torch.allclose(*outputs, atol=1e-5)


def test_one_expert_a_token_needs_a_weight_that_carries_a_gradient():
    with pytest.raises(ValidationError, match="router no gradient"):
        MpIsmoeConfig(top_k=1, router_weight="renorm")
    method = build_method("mp_ismoe", top_k=1)
    ProbedModel(method).loss(tiny_inputs(method.backbone)).backward()
    routers = [m.router.logits.weight.grad for m in mixtures(method.network)]
    assert all(g.abs().sum() > 0 for g in routers)


def test_the_literal_preset_trains():
    method = build_method("mp_ismoe@literal")
    context = TinyContext(ProbedModel(method), tiny_inputs(method.backbone), epochs=2)
    method.on_epoch_start(context, 1)
    train_steps(context.model, context.inputs)
    assert method.quality()["quantization_mse"] > 0


def test_no_reading_of_a_field_is_left_out_of_the_list():
    listed: dict[str, set[Any]] = {}
    for fields in READINGS.values():
        for name, values in fields.items():
            listed.setdefault(name, set()).update(values)
    for name in ("rounding", "range", "sample_unit", "accept", "correlation", "placement"):
        assert listed[name] == set(get_args(MpIsmoeConfig.model_fields[name].annotation))


def test_the_card_tells_every_reading():
    told = {field for reading in METHODS.card("mp_ismoe").readings for field in reading.fields}
    assert told >= {name for fields in READINGS.values() for name in fields}
