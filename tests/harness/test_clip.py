"""CLIP's towers against the library's whole model, and videos as frames."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from harness.cards import BACKBONES
from harness.testing.small import SMALL_BACKBONES, small_backbone

SIZES = SMALL_BACKBONES["clip"]
END = 299


@pytest.fixture(scope="module")
def library() -> CLIPModel:
    torch.manual_seed(0)
    vision = {
        "hidden_size": SIZES["image_width"],
        "intermediate_size": SIZES["image_ffn_width"],
        "num_hidden_layers": SIZES["image_layers"],
        "num_attention_heads": SIZES["image_heads"],
        "image_size": SIZES["image_size"],
        "patch_size": SIZES["patch_size"],
    }
    text = {
        "hidden_size": SIZES["text_width"],
        "intermediate_size": SIZES["text_ffn_width"],
        "num_hidden_layers": SIZES["text_layers"],
        "num_attention_heads": SIZES["text_heads"],
        "vocab_size": SIZES["vocabulary"],
        "eos_token_id": END,
    }
    config = CLIPConfig(
        vision_config=vision, text_config=text, projection_dim=SIZES["embedding_width"]
    )
    return CLIPModel(config).eval()


@pytest.fixture(scope="module")
def backbone(library: CLIPModel, tmp_path_factory: pytest.TempPathFactory):
    path: Path = tmp_path_factory.mktemp("clip") / "weights.safetensors"
    save_file({k: v.clone() for k, v in library.state_dict().items()}, path)
    return BACKBONES.load("clip").build(BACKBONES.card("clip").config(**SIZES), weights=str(path))


def embed(backbone, stream, inputs):
    with torch.no_grad():
        return backbone.embed(stream, backbone.encode(stream, inputs, {}).salient)


def test_images_are_embedded_as_the_library_embeds_them(library, backbone):
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = library.get_image_features(pixel_values=backbone.pixels(pixels)).pooler_output
    assert torch.allclose(embed(backbone, "image", {"pixels": pixels}), expected, atol=1e-5)


def test_texts_are_embedded_by_their_last_token_whatever_the_padding(library, backbone):
    ids = torch.tensor([[5, 6, 7, 8, END], [9, END, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    with torch.no_grad():
        expected = library.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    inputs = {"input_ids": ids, "attention_mask": mask}
    assert torch.allclose(embed(backbone, "text", inputs), expected, atol=1e-5)


def test_a_video_is_its_frames_in_groups():
    backbone = small_backbone("clip")
    videos = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 40, 3), dtype=np.uint8)
    inputs = backbone.processors()["video"](videos)
    frames = backbone.processors()["image"](videos.reshape(6, 40, 40, 3))
    with torch.no_grad():
        state = backbone.encode("image", inputs, {}, taps=True)
        alone = backbone.encode("image", frames, {})
    assert state.groups.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(state.output, alone.output)
    assert alone.groups is None
