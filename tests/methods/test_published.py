"""Trainable parameters as published, to the parameter, on the meta device."""

import pytest
import torch

from harness.cards import BACKBONES, METHODS
from harness.counting import count_parameters
from harness.errors import UserError
from harness.testing.methods import build_method

# method, backbone, trainable parameters, percentage of the backbone as the sources print it
EXACT = [
    ("adapter", "t5-base", 3_625_728, 1.6267),
    ("lora@official", "t5-base", 3_820_644, 1.7142),
    ("lora", "t5-base", 3_538_944, 1.5878),
    ("bitfit", "t5-base", 280_932, 0.1260),
    ("prompt", "t5-base", 76_800, 0.0345),
    ("lst@published", "t5-base", 3_878_712, 1.7403),
    ("lst@published", "t5-large", 9_057_328, 1.2279),
    ("unipt@published", "t5-base", 3_036_290, 1.3623),
    ("unipt@published", "t5-large", 6_969_346, 0.9448),
    ("sherl@published", "t5-base", 1_907_236, 0.8557),
    ("sherl@published", "t5-large", 4_700_548, 0.6372),
    ("side_tuning@published", "t5-base", 3_325_441, 1.4920),
    ("qst@published", "t5-base", 3_517_248, 1.5781),
    ("qst@published", "t5-large", 12_062_976, 1.6353),
    ("mp_ismoe@published", "t5-base", 5_376_770, 2.4124),
]
ANSWERS, POOLS, LINEAR, HEADS = 5_993_529, 2 * 12_704, 2_098_176 + 787_456, 231_300
"""The answer head of VQAv2; VSE's poolings and the linear layers before them; MDETR's heads."""

# With the head of the backbone's paper task; the sources print millions
EXACT_WITH_HEAD = [
    ("lst@published", "clip-vil", 7_402_764, ANSWERS, "13.4 M"),
    ("unipt@published", "clip-vil", 4_736_641, ANSWERS, "10.3 M"),
    ("sherl@published", "clip-vil", 7_387_778, ANSWERS, "13.0 M"),
    ("unipt@published", "vse", 5_921_281 + 6_433_537, POOLS, "12.4 M"),
    ("sherl@published", "vse", 5_133_058 + 3_027_458, POOLS + LINEAR, "11.3 M"),
    ("unipt@published", "mdetr", 481_666, HEADS, "0.7 M"),
    ("sherl@published", "mdetr", 464_900, HEADS, "0.7 M"),
    ("unipt@published", "clip-vit-b32", 5_644_289 + 3_940_353, 0, "9.6 M"),
    ("sherl@published", "clip-vit-b32", 9_598_006, 0, "9.6 M"),
]
DENOMINATORS = {"t5-base": 222_882_048, "t5-large": 737_639_424}
MISMATCHES = [
    ("unipt@published", "t5-large", "0.92 %"),
    ("mp_ismoe@published", "t5-large", "1.75 %"),
]


@pytest.mark.parametrize(("method", "backbone", "trainable", "percent"), EXACT)
def test_counts_are_the_published_ones(method, backbone, trainable, percent):
    params = count_parameters(method, backbone)
    assert params.trainable == trainable
    assert params.trainable == sum(params.parts.values())
    assert params.denominator == DENOMINATORS[backbone]
    assert params.percent == pytest.approx(percent, abs=5e-5)


@pytest.mark.parametrize(("method", "backbone", "side", "head", "printed"), EXACT_WITH_HEAD)
def test_counts_with_a_head_are_the_released_ones(method, backbone, side, head, printed):
    """A figure that the released code does not give is quoted with a note that says so."""
    params = count_parameters(method, backbone)
    assert params.trainable == side + head
    assert params.parts["head"] == head
    setting = METHODS.choose(method).card.published[backbone]
    assert setting.trainable == printed
    assert bool(setting.note) == (f"{(side + head) / 1e6:.1f} M" != printed)


def test_the_smaller_projection_gives_the_figure_that_unipt_prints():
    backbone = BACKBONES.choose("clip-vil")
    with torch.device("meta"):
        config = backbone.card.config(**backbone.values)
        model = BACKBONES.load("clip_vil").build(config, device="meta")
        method = build_method("unipt", model, ("joint",), reduction=2, train_norms="none")
    side = sum(p.numel() for p in method.parameters() if p.requires_grad)
    assert side + 5_993_529 == 10_287_034


@pytest.mark.parametrize("backbone", DENOMINATORS)
def test_full_fine_tuning_trains_the_denominator(backbone):
    params = count_parameters("full", backbone)
    assert params.trainable == params.denominator == DENOMINATORS[backbone]


@pytest.mark.parametrize(("method", "backbone", "figure"), MISMATCHES)
def test_what_does_not_match_is_said(method, backbone, figure):
    setting = METHODS.choose(method).card.published[backbone]
    assert setting.trainable == figure
    assert setting.note
    printed = float(figure.split()[0])
    assert abs(count_parameters(method, backbone).percent - printed) > 0.005


def test_parts_of_the_norms_and_biases_are_told_apart():
    assert count_parameters("adapter", "t5-base").parts["norms"] == 47_616
    lora = count_parameters("lora@official", "t5-base").parts
    assert lora == {"updates": 3_538_944, "biases": 280_932 + 768, "head": 0}
    assert count_parameters("mp_ismoe@published", "t5-base").parts["norms"] == 47_616


@pytest.mark.parametrize(("hidden", "trainable"), [("4m", 2_504_356), ("d", 3_094_180)])
def test_experts_on_sherl_are_counted_by_the_same_rule(hidden, trainable):
    """1.124 % or 1.388 % of T5-base; published 1.48 %, which no natural rule gives."""
    backbone = BACKBONES.choose("t5-base")
    layers = METHODS.card("sherl").published["t5-base"].values["layers"]
    settings = {"router_bias": False, "correlation_norm": "dot", "expert_hidden": hidden}
    with torch.device("meta"):
        model = BACKBONES.load("t5").build(backbone.card.config(**backbone.values), device="meta")
        method = build_method("mp_ismoe@sherl", model, ("decoder",), layers=layers, **settings)
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == trainable


def test_published_without_such_a_setting_is_refused():
    with pytest.raises(UserError, match=r"'lst' has no published setting for backbone 'scenes_vl'"):
        count_parameters("lst@published", "scenes_vl")


@pytest.mark.parametrize("preset", ["gnp_iq", "ismoe", "low_pre"])
def test_presets_are_counted_without_weights(preset):
    assert count_parameters(f"mp_ismoe@{preset}", "minilm").trainable > 0


def test_unipt_on_mdetr_has_the_released_parts():
    """A crosser for each target, and an upsampler behind the decoder alone."""
    backbone = BACKBONES.choose("mdetr")
    with torch.device("meta"):
        model = BACKBONES.load("mdetr").build(backbone.card.config(), device="meta")
        values = METHODS.card("unipt").published["mdetr"].values
        method = build_method("unipt", model, ("encoder", "decoder"), **values)
    assert [len(s.crossers) for s in method.network.streams.values()] == [0, 3]
    assert method.network.adapts == ("decoder",)


def test_unipt_on_clip_vil_has_nothing_before_its_upsampler():
    backbone = BACKBONES.choose("clip-vil")
    with torch.device("meta"):
        config = backbone.card.config(**backbone.values)
        model = BACKBONES.load("clip_vil").build(config, device="meta")
        values = METHODS.card("unipt").published["clip-vil"].values
        method = build_method("unipt", model, ("joint",), **values)
    assert method.network.ending.activation is None
