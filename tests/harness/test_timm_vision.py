"""Vision models of timm: the same features, taken apart into blocks."""

from types import MappingProxyType

import pytest
import timm
import torch
from safetensors.torch import save_file

from harness.cards import BACKBONES
from harness.errors import UserError
from harness.testing.contracts import BackboneContract
from harness.testing.methods import build_method

CONVOLUTIONAL = [
    "test_resnet",
    "test_efficientnet",
    "test_convnext",
    "mobilenetv2_035",
    "regnety_002",
]
TRANSFORMERS = ["test_vit", "test_vit3"]


def build(model, **options):
    config = BACKBONES.card("timm_vision").config(model=model, image_size=64)
    return BACKBONES.load("timm_vision").build(config, **({"weights": "random"} | options))


class TestAConvolutionalModel(BackboneContract):
    name = "timm_vision"
    settings = MappingProxyType({"model": "test_resnet", "image_size": 64})


@pytest.mark.parametrize("model", [*CONVOLUTIONAL, *TRANSFORMERS])
def test_the_blocks_in_turn_are_the_whole_model(model, tmp_path):
    """Weights and batch statistics come from a file with timm's own names."""
    options = {"img_size": 64} if model in TRANSFORMERS else {}
    whole = timm.create_model(model, num_classes=0, global_pool="", **options).eval()
    for name, buffer in whole.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    path = tmp_path / "weights.safetensors"
    save_file(whole.state_dict(), path)
    backbone = build(model, weights=str(path))
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        state = backbone.encode("image", {"pixels": pixels}, {}, taps=True)
        expected = whole.forward_features(backbone.image.pixels(pixels))
    if expected.dim() == 4:
        expected = expected.flatten(2).transpose(1, 2)
    assert torch.allclose(state.output, expected, atol=1e-5)
    spec = backbone.specs[0]
    assert state.output.shape[2] == spec.width == whole.num_features
    widths = [tap.tokens().shape[2] for tap in state.taps]
    assert widths == [spec.tap_width(i) for i in range(spec.depth + 1)]


def test_maps_are_read_from_stride_4_to_32_and_the_last_unit_alone():
    config = BACKBONES.card("timm_vision").config(model="resnext101_32x8d", image_size=512)
    spec = BACKBONES.load("timm_vision").build(config, device="meta").specs[0]
    assert spec.widths == (256, 512, 1024, 2048, 2048)
    assert spec.convolutional


def test_batch_statistics_stay_as_they_were_trained():
    backbone = build("test_resnet").train()
    before = {n: b.clone() for n, b in backbone.named_buffers()}
    backbone.encode("image", {"pixels": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)}, {})
    assert all(torch.equal(before[n], b) for n, b in backbone.named_buffers())


@pytest.mark.parametrize("model", ["no_such_model", "mobilenetv3_small_050", "test_vit_relpos"])
def test_other_models_are_refused(model):
    with pytest.raises(UserError, match=f"'{model}'.*vit_base_patch16_224"):
        build(model, device="meta")


@pytest.mark.parametrize(("method", "sites"), [("adapter", "sub-layers"), ("lora", "attentions")])
def test_methods_of_transformer_blocks_are_refused_where_there_are_none(method, sites):
    with pytest.raises(UserError, match=f"'{method}' changes {sites}, .* none in stream image"):
        build_method(method, build("test_resnet"), ("image",))


def test_norms_that_change_every_salient_token_are_refused():
    with pytest.raises(UserError, match="from which every salient token comes"):
        build_method("mp_ismoe@sherl", build("test_resnet"), ("image",), train_norms="late_only")
