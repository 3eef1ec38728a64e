"""The bundled backbone: its tokenizer, weights on disk, streams, and pretraining."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backbones.scenes_vl import ScenesVLConfig
from harness.backbones.scenes_vl.checkpoint import (
    SCORES_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    WEIGHTS_FOLDER,
    sha256,
)
from harness.backbones.scenes_vl.model import ScenesVL
from harness.backbones.scenes_vl.pretraining import pretrain
from harness.backbones.scenes_vl.pretraining_data import HIDDEN, BatchMaker
from harness.backbones.scenes_vl.text import (
    CLS,
    MASK,
    PAD,
    SEP,
    decode_text,
    encode_texts,
    load_tokenizer,
)
from harness.errors import UserError

MAX_BYTES = 12_000_000


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(WEIGHTS_FOLDER / TOKENIZER_FILE)


@pytest.fixture(scope="module")
def backbone():
    return ScenesVL.build(ScenesVLConfig())


@pytest.fixture
def inputs(backbone):
    process = backbone.processors()
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    texts = ["a red circle", "is there a large blue star above the heart ?", "?"]
    return process["image"](images) | process["text"](texts)


def encode_all(backbone, inputs):
    states = {}
    for spec in backbone.specs:
        states[spec.name] = backbone.encode(spec.name, inputs, states, taps=True)
    return states


@settings(max_examples=200)
@given(text=st.text(max_size=60))
def test_any_text_survives_the_tokenizer_but_for_its_case_and_one_leading_space(text):
    tokenizer = load_tokenizer(WEIGHTS_FOLDER / TOKENIZER_FILE)
    lower = tokenizer.normalizer.normalize_str(text.lower())
    ids = encode_texts(tokenizer, [text], max_tokens=1000)["input_ids"][0].tolist()
    assert ids[0] == CLS
    assert ids[-1] == SEP
    assert decode_text(tokenizer, ids) == lower.removeprefix(" ")


def test_no_text_can_name_a_special_token(tokenizer):
    ids = encode_texts(tokenizer, ["[MASK] [SEP] [PAD]"], 64)["input_ids"][0].tolist()
    assert not {MASK, SEP, PAD, CLS} & set(ids[1:-1])


def test_texts_are_padded_together_and_cut_at_the_limit(tokenizer):
    batch = encode_texts(tokenizer, ["a", "a red circle and a blue star"], max_tokens=6)
    assert batch["input_ids"].shape == (2, 6)
    assert batch["input_ids"][1, -1] == SEP
    assert torch.equal(batch["attention_mask"].bool(), batch["input_ids"] != PAD)


def test_words_of_pretraining_are_single_tokens_and_held_out_words_are_not(tokenizer):
    assert len(tokenizer.encode("a striped circle").ids) == 2 + 3
    assert len(tokenizer.encode("turquoise").ids) > 3


def test_bundled_files_are_small_and_their_scores_meet_the_requirement():
    assert sum(file.stat().st_size for file in WEIGHTS_FOLDER.iterdir()) <= MAX_BYTES
    scores = json.loads((WEIGHTS_FOLDER / SCORES_FILE).read_text())
    assert scores["candidates"] == 100
    assert min(scores["image_to_text_r1"], scores["text_to_image_r1"]) >= 0.85
    assert scores["seconds"] <= 3600


def test_the_weights_record_their_checksum(backbone):
    assert backbone.weights_hash == sha256(WEIGHTS_FOLDER / WEIGHTS_FILE)


@pytest.mark.parametrize("position", [200, -1])
def test_a_damaged_weight_file_is_named_with_both_checksums(tmp_path, position):
    folder = shutil.copytree(WEIGHTS_FOLDER, tmp_path / "weights")
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    expected = json.loads((folder / SCORES_FILE).read_text())["sha256"]
    with pytest.raises(UserError) as error:
        ScenesVL.build(ScenesVLConfig(), weights=str(folder))
    for part in (str(path), expected, sha256(path)):
        assert part in str(error.value)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        ScenesVL.build(ScenesVLConfig(), weights=str(tmp_path))


def test_weights_of_other_sizes_are_refused():
    with pytest.raises(UserError, match="do not fit"):
        ScenesVL.build(ScenesVLConfig(width=64))


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    one, same, other = (
        ScenesVL.build(ScenesVLConfig(width=16, seed=seed), weights="random").state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_the_meta_device_builds_shapes_alone(backbone):
    empty = ScenesVL.build(ScenesVLConfig(), device="meta")
    assert all(p.is_meta for p in empty.parameters())
    shapes = {name: p.shape for name, p in backbone.named_parameters()}
    assert {name: p.shape for name, p in empty.named_parameters()} == shapes


def test_every_stream_has_its_declared_shape_and_taps(backbone, inputs):
    states = encode_all(backbone, inputs)
    for spec in backbone.specs:
        state = states[spec.name]
        assert len(state.taps) == spec.depth + 1 == len(backbone.blocks(spec.name)) + 1
        assert {tap.value.shape for tap in state.taps} == {state.output.shape}
        assert state.output.shape[-1] == spec.width
        salient = backbone.select_salient(spec.name, state.output, state.mask)
        assert torch.equal(state.salient, salient)
    joint = states["text"].output.shape[1] + states["image"].output.shape[1]
    assert states["joint"].output.shape[1] == joint


def test_named_modules_exist_and_cover_all_linear_layers(backbone):
    modules = dict(backbone.named_modules())
    for spec in backbone.specs:
        for names in (backbone.blocks, backbone.norms, backbone.sublayers):
            assert set(names(spec.name)) <= set(modules)
        assert len(backbone.sublayers(spec.name)) == 2 * spec.depth
    linear = {name for name, module in modules.items() if isinstance(module, torch.nn.Linear)}
    assert linear < set(backbone.quantizable()) <= set(modules)
    assert not any(isinstance(module, torch.nn.Conv2d) for module in modules.values())


def test_padding_changes_no_state(backbone, inputs):
    alone = {"pixels": inputs["pixels"][:1]} | dict(backbone.processors()["text"](["a red circle"]))
    together = encode_all(backbone, inputs)
    for name, state in encode_all(backbone, alone).items():
        torch.testing.assert_close(state.salient, together[name].salient[:1], atol=1e-4, rtol=1e-4)


def test_a_statement_hides_its_answer_only_where_truth_is_hidden(tokenizer):
    maker = BatchMaker(tokenizer, seed=0, mask_rate=0.25, max_tokens=64, device=torch.device("cpu"))
    batch = maker.batch(range(64), torch.Generator().manual_seed(0))
    last = batch.statements["attention_mask"].sum(dim=1) - 2
    answers = batch.statements["input_ids"].gather(1, last[:, None])[:, 0]
    assert torch.equal(answers == MASK, batch.truth == HIDDEN)
    assert not batch.statement_words[batch.truth == 0].any()
    hidden = batch.words != PAD
    assert torch.equal(batch.masked["input_ids"] == MASK, hidden)


def test_pretraining_writes_loadable_weights_the_same_for_the_same_seed(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    small = {"steps": 2, "batch_size": 8, "held_out": 100, "tokenizer_scenes": 300}
    for folder in folders:
        scores = pretrain(folder, **small, threads=torch.get_num_threads(), seed=3)
        assert scores == json.loads((folder / SCORES_FILE).read_text())
        assert 0 <= scores["image_to_text_r1"] <= 1
    first, second = ((folder / WEIGHTS_FILE).read_bytes() for folder in folders)
    assert first == second
    trained = ScenesVL.build(ScenesVLConfig(), weights=str(folders[0]))
    start = ScenesVL.build(ScenesVLConfig(seed=3), weights="random").state_dict()
    assert any(not torch.equal(start[name], value) for name, value in trained.state_dict().items())
