"""The mock backbone keeps the contract that it is used to test others with."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from harness.cards import BackboneCard
from harness.errors import UserError
from harness.testing.backbones import CARD, TinyBackbone, TinyConfig
from harness.testing.contracts import BackboneContract


class TestTinyBackbone(BackboneContract):
    name = "tiny"
    image_size = 8

    @property
    def card(self) -> BackboneCard:
        return CARD

    def build(self, device: str = "cpu") -> TinyBackbone:
        return TinyBackbone.build(self.config, device=device)

    def test_card_describes_itself(self) -> None:
        assert tuple(s.name for s in self.build().specs) == CARD.streams


class TestCausalTinyBackbone(TestTinyBackbone):
    settings = {"causal_text": True, "depth": 3}  # noqa: RUF012


def test_images_of_other_sizes_are_resized():
    backbone = TinyBackbone.build(TinyConfig())
    images = np.zeros((2, 20, 12, 3), dtype=np.uint8)
    assert backbone.processors()["image"](images)["pixels"].shape == (2, 8, 8, 3)


def test_long_texts_are_cut():
    backbone = TinyBackbone.build(TinyConfig(max_tokens=6))
    tokens = backbone.processors()["text"](["a very long text", "b"])["tokens"]
    assert tokens.shape == (2, 6)
    assert torch.equal(tokens[1, 2:], torch.zeros(4, dtype=torch.long))


def test_it_has_no_weights_but_random_ones():
    with pytest.raises(UserError, match="no weights 'folder'"):
        TinyBackbone.build(TinyConfig(), weights="folder")


@pytest.mark.parametrize("settings", [{"width": 18, "heads": 4}, {"image_size": 9}])
def test_shapes_must_divide(settings):
    with pytest.raises(ValidationError, match="must be a multiple of"):
        TinyConfig(**settings)
