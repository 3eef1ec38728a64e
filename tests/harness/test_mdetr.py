"""MDETR's parts against the library's DETR, and what its decoder reads."""

import pytest
import torch
from transformers.models.detr.modeling_detr import DetrEncoderLayer, DetrSinePositionEmbedding

from harness.backbones.mdetr.parts import EncoderBlock, grid_positions
from harness.errors import UserError
from harness.testing.small import random_inputs, small_backbone

TEXTS = ["a red circle", "no"]


@pytest.mark.parametrize(("side", "width"), [(1, 8), (5, 32)])
def test_positions_are_the_librarys(side, width):
    library = DetrSinePositionEmbedding(width // 2, normalize=True)
    expected = library(torch.Size([1, 1, side, side]), "cpu", torch.float32)
    found = grid_positions(side, width)
    assert torch.allclose(found, expected[0].flatten(1).T, atol=1e-6)


def test_encoder_blocks_are_the_librarys():
    block = small_backbone("mdetr").encoder[0]
    assert isinstance(block, EncoderBlock)
    hidden, positions = torch.randn(2, 7, 32), torch.randn(1, 7, 32)
    bias = torch.zeros(2, 1, 1, 7)
    bias[0, :, :, 5:] = torch.finfo(torch.float32).min
    with torch.no_grad():
        expected = DetrEncoderLayer.forward(block, hidden, bias, positions)
        assert torch.allclose(block(hidden, bias, positions), expected, atol=1e-6)


def test_objects_depend_on_image_and_text_and_the_head_points_at_both():
    backbone = small_backbone("mdetr")
    inputs = random_inputs(backbone, TEXTS)
    changed = {**inputs, **backbone.processors()["text"](["a red square", "no"])}

    def decode(inputs):
        states = {}
        with torch.no_grad():
            for spec in backbone.specs:
                states[spec.name] = backbone.encode(spec.name, inputs, states)
        return states

    first, second = decode(inputs), decode(changed)
    objects = first["decoder"].output
    assert objects.shape == (2, 5, 32)
    assert not torch.allclose(objects[0], second["decoder"].output[0])
    assert torch.allclose(objects[1], second["decoder"].output[1], atol=1e-5)
    found = backbone.paper_head()(first)
    tokens = first["encoder"].output.shape[1]
    assert found["spans"].shape == (2, 5, 256)
    assert found["words"].shape == (2, tokens, 64)
    assert bool(((found["boxes"] >= 0) & (found["boxes"] <= 1)).all())
    assert torch.allclose(found["objects"].norm(dim=-1), torch.ones(2, 5))


def test_towers_have_no_block_to_run_late():
    with pytest.raises(UserError, match="Stream 'image' of mdetr has no blocks"):
        small_backbone("mdetr").run_late("image", torch.zeros(1, 4, 32), None)
