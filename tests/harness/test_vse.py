"""Two towers: their weights come from two places, and so do the masters of their codes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.cards import BACKBONES
from harness.errors import UserError
from harness.testing.methods import build_method
from harness.testing.small import SMALL_BACKBONES, random_inputs, small_backbone
from methods.base import SideMethod


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Weight files of both towers, without what the retrieval head trains."""
    source = small_backbone("vse")
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(0.01)
    paths = {}
    for name in ("image", "text"):
        tower = source.get_submodule(name)
        paths[name] = tmp_path / f"{name}.safetensors"
        save_file({k: v.clone() for k, v in tower.state_dict().items()}, paths[name])
    (tmp_path / "tokenizer.json").write_text(_tokenizer())
    return paths


def _tokenizer() -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(["[PAD]", "a", "red", "circle", "[UNK]"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str()


def build(weights):
    config = BACKBONES.card("vse").config(**SMALL_BACKBONES["vse"])
    return BACKBONES.load("vse").build(config, weights=weights)


def test_weights_come_from_two_files_and_masters_are_read_from_both(places):
    backbone = build(f"image={places['image']},text={places['text']}")
    random = small_backbone("vse")
    assert backbone.weights_hash != random.weights_hash
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, random.get_parameter(name) + 0.01)
        path, _ = backbone.stored(name)
        assert path == places[name.partition(".")[0]]
    names = [f"{n}.weight" for n in backbone.quantizable()]
    before = {n: backbone.get_parameter(n).detach().clone() for n in names}
    method = build_method("mp_ismoe", backbone, ("image", "text"), reduction=4)
    for name, value in before.items():
        assert torch.equal(method.requantizer.masters.read(name), value)


def test_codes_lie_in_two_towers():
    backbone = small_backbone("vse")
    method = build_method("mp_ismoe", backbone, ("image", "text"), reduction=4)
    assert isinstance(method, SideMethod)
    states = method(random_inputs(backbone, ["a red circle", "no"]))
    assert {name: s.output.shape[2] for name, s in states.items()} == {"image": 96, "text": 32}


@pytest.mark.parametrize(
    "weights", [None, "somewhere", "image=random", "image=random,words=random"]
)
def test_weights_of_both_towers_are_named(weights):
    with pytest.raises(UserError, match=r"Name the weights of both, --weights image=PLACE,text="):
        build(weights)
