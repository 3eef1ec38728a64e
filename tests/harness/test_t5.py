"""T5 against the library's own model, and its weights from a folder."""

from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.models.t5.modeling_t5 import T5Attention, T5ForConditionalGeneration

from harness.backbones.t5 import T5BackboneConfig
from harness.backbones.t5.model import T5, _library_config
from harness.errors import UserError
from harness.testing.methods import build_method
from methods.side.positions import bucket_of

SIZES = {
    "width": 32,
    "heads": 4,
    "head_width": 8,
    "ffn_width": 64,
    "layers": 2,
    "vocabulary": 60,
    "dropout": 0.0,
}


def built(**sizes) -> T5:
    return T5.build(T5BackboneConfig(**{**SIZES, **sizes}), weights="random")


def reference(backbone: T5) -> T5ForConditionalGeneration:
    """Return the library's model with the backbone's weights."""
    model = T5ForConditionalGeneration(_library_config(backbone.config)).eval()
    missing, unexpected = model.load_state_dict(backbone.state_dict(), strict=False)
    assert not unexpected
    assert set(missing) <= {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    return model


@pytest.mark.parametrize("feed_forward", ["relu", "gated_gelu"])
def test_states_and_logits_are_the_librarys(feed_forward):
    backbone = built(feed_forward=feed_forward, tied_head=feed_forward == "relu")
    inputs = {
        **backbone.processors()["text"](["a red circle", "no"]),
        **backbone.processors()["target"](["yes", "three"]),
    }
    states = {}
    with torch.no_grad():
        for spec in backbone.specs:
            states[spec.name] = backbone.encode(spec.name, inputs, states, taps=True)
        expected = reference(backbone)(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=inputs["decoder_input_ids"],
            output_hidden_states=True,
        )
        logits = backbone.logits(states["decoder"].output)
    assert torch.allclose(logits, expected.logits, atol=1e-4)
    for name in ("encoder", "decoder"):
        hidden = getattr(expected, f"{name}_hidden_states")
        for tap, value in zip(states[name].taps[:-1], hidden[:-1], strict=True):
            assert torch.allclose(tap.value, value, atol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_buckets_of_distances_are_the_librarys(causal):
    offsets = torch.arange(-300, 301)
    expected = T5Attention._relative_position_bucket(offsets, bidirectional=not causal)
    assert torch.equal(bucket_of(offsets, 32, 128, causal), expected)


def test_targets_are_shifted_by_one_start_token():
    inputs = built().processors()["target"](["yes", "no"])
    assert inputs["decoder_input_ids"][:, 0].tolist() == [0, 0]
    assert torch.equal(inputs["decoder_input_ids"][:, 1:], inputs["labels"][:, :-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights with four more rows in the embedding than the configuration, and a tokenizer."""
    backbone = built(vocabulary=SIZES["vocabulary"] + 4)
    state = {k: v.contiguous() for k, v in backbone.state_dict().items() if k != "lm_head.weight"}
    save_file(state, tmp_path / "model.safetensors")
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "red": 3, "circle": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def load(folder: Path | str, **sizes) -> T5:
    return T5.build(T5BackboneConfig(**{**SIZES, **sizes}), weights=str(folder))


def test_weights_come_from_a_folder_with_spare_rows(folder: Path):
    backbone = load(folder)
    larger = built(vocabulary=SIZES["vocabulary"] + 4)
    assert torch.equal(backbone.shared.weight, larger.shared.weight[:60])
    assert backbone.lm_head.weight is backbone.shared.weight
    assert len(backbone.weights_hash) == 64
    texts = backbone.processors()["text"](["red circle", "red"])
    assert texts["input_ids"].tolist() == [[3, 4], [3, 0]]
    assert texts["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_masters_are_read_again_from_the_folder(folder: Path):
    backbone = load(folder)
    original = backbone.shared.weight.clone()
    method = build_method("mp_ismoe", backbone, ("decoder",), reduction=4)
    master = method.requantizer.masters.read("shared.weight")
    assert torch.equal(master, original)


def test_a_quantised_tied_head_shares_the_embeddings_codes():
    method = build_method("mp_ismoe", built(), ("decoder",), reduction=4)
    backbone = method.backbone
    assert backbone.lm_head.weight is backbone.shared.weight
    assert backbone.logits(torch.randn(1, 2, 32)).shape == (1, 2, 60)


def test_weights_that_are_not_there_say_what_to_fetch(folder: Path, monkeypatch):
    with pytest.raises(UserError, match=r"brings no weights\. Give --weights FOLDER"):
        T5.build(T5BackboneConfig(**SIZES))
    with pytest.raises(
        UserError, match=r"no such folder or file, and a hub's model is written OWNER/NAME"
    ):
        load("t5-base")
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load(folder.parent)

    def unreachable(*_args, **_kwargs):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(UserError, match=r"Fetch model\.safetensors and tokenizer\.json of 'a/b'"):
        load("a/b@abc123")


def test_weights_of_other_sizes_or_damaged_are_refused(folder: Path):
    with pytest.raises(UserError, match=r"do not fit the configuration: '.*' is \["):
        load(folder, ffn_width=32)
    with pytest.raises(UserError, match=r"have no '.*', which is needed"):
        load(folder, layers=3)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        load(folder)
