"""The registered backbones made small, with random weights, and inputs for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from harness.backbones.base import Backbone
from harness.cards import BACKBONES

SMALL_BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "scenes_vl": {
        "width": 32,
        "heads": 4,
        "image_layers": 2,
        "text_layers": 1,
        "joint_layers": 2,
    },
    "bert": {
        "width": 32,
        "heads": 4,
        "ffn_width": 64,
        "layers": 2,
        "vocabulary": 300,
        "dropout": 0.0,
    },
    "clip": {
        "image_width": 32,
        "image_heads": 4,
        "image_ffn_width": 64,
        "image_layers": 2,
        "image_size": 32,
        "patch_size": 16,
        "text_width": 16,
        "text_heads": 2,
        "text_ffn_width": 32,
        "text_layers": 2,
        "vocabulary": 300,
        "embedding_width": 24,
    },
    "clip_vil": {
        "vision": "resnet18",
        "image_height": 32,
        "image_width": 64,
        "width": 32,
        "heads": 4,
        "ffn_width": 64,
        "layers": 2,
        "vocabulary": 300,
        "dropout": 0.0,
    },
    "timm_vision": {"model": "test_vit", "image_size": 32},
    "mdetr": {
        "vision": "test_resnet",
        "image_size": 64,
        "text_width": 32,
        "text_heads": 4,
        "text_ffn_width": 64,
        "text_layers": 1,
        "vocabulary": 300,
        "width": 32,
        "heads": 4,
        "ffn_width": 64,
        "layers": 3,
        "queries": 5,
        "dropout": 0.0,
    },
    "vse": {
        "image": {"model": "test_resnet", "image_size": 64},
        "text": {
            "width": 32,
            "heads": 4,
            "ffn_width": 64,
            "layers": 2,
            "vocabulary": 300,
            "dropout": 0.0,
        },
        "embedding_width": 24,
    },
    "t5": {
        "width": 32,
        "heads": 4,
        "head_width": 8,
        "ffn_width": 64,
        "layers": 2,
        "vocabulary": 300,
        "dropout": 0.0,
    },
}
"""Settings that make the registered backbones small, by name."""


def small_backbone(name: str) -> Backbone:
    """Build a registered backbone small, with random weights."""
    config = BACKBONES.card(name).config(**SMALL_BACKBONES[name])
    backbone = BACKBONES.load(name).build(config, weights="random")
    assert isinstance(backbone, Backbone)
    return backbone


def random_inputs(
    backbone: Backbone, texts: Sequence[str], image_size: int = 64
) -> dict[str, Tensor]:
    """Return one row a text, the text as target too, with random images."""
    shape = (len(texts), image_size, image_size, 3)
    raw = {
        "image": np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8),
        "text": list(texts),
        "target": list(texts),
    }
    inputs: dict[str, Tensor] = {}
    processors = backbone.processors()
    for modality in dict.fromkeys(str(s.modality) for s in backbone.specs if s.modality):
        inputs.update(processors[modality](raw[modality]))
    return inputs
