"""LoRA, BitFit, prompt tuning and QST's parts against their equations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from harness.backbones.scenes_vl import ScenesVLConfig
from harness.backbones.scenes_vl.model import ScenesVL
from harness.backbones.t5 import T5BackboneConfig
from harness.backbones.t5.model import T5
from harness.errors import UserError
from harness.memory.tracker import MemoryTracker
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.contracts import MethodContract
from harness.testing.methods import ProbedModel, build_method
from methods.lora import LoraConfig
from methods.lora.model import LowRankUpdate
from methods.qst.model import LowRankDown, VectorGate

SMALL_T5 = {"width": 32, "heads": 4, "head_width": 8, "ffn_width": 64, "layers": 2}


def small_t5():
    config = T5BackboneConfig(**SMALL_T5, vocabulary=50, dropout=0.0)
    return T5.build(config, weights="random")


class TestLoraFa(MethodContract):
    name = "lora@fa"


@settings(max_examples=15)
@given(inputs=st.integers(1, 9), outputs=st.integers(1, 9), rank=st.integers(1, 4))
def test_a_low_rank_update_is_its_equation(inputs, outputs, rank):
    config = LoraConfig(rank=rank, alpha=3.0, dropout=0.0)
    update = LowRankUpdate(inputs, outputs, config).double()
    nn.init.normal_(update.up)
    x = torch.randn(2, 3, inputs, dtype=torch.float64)
    matrix = 3.0 / rank * update.up @ update.down  # [O, I]
    assert torch.allclose(update(x), x @ matrix.T, atol=1e-6)


@pytest.mark.parametrize("train_down", [True, False])
def test_without_training_the_down_projection_only_its_output_is_saved(train_down):
    tokens, width, rank = 2 * 5, 64, 4
    config = LoraConfig(rank=rank, dropout=0.0, train_down=train_down)
    update = LowRankUpdate(width, width, config)
    x = torch.randn(2, 5, width, requires_grad=True)
    with MemoryTracker(update, {"side": update}) as tracker:
        output = update(x)
        saved = tracker.current_bytes["saved_side"]
        output.sum().backward()
    assert saved == 4 * tokens * (rank + width * train_down)
    assert x.grad is not None
    assert (update.down.grad is not None) == train_down


def test_lora_fa_trains_half_and_keeps_less_than_lora():
    methods = {name: build_method(name, dropout=0.0) for name in ("lora", "lora@fa")}
    sizes = {n: sum(p.numel() for p in m.parts()["updates"]) for n, m in methods.items()}
    assert sizes["lora@fa"] * 2 == sizes["lora"]  # as wide as deep: B is as large as A
    saved = {}
    for name, method in methods.items():
        model = ProbedModel(method).train()
        regions = {"backbone": method.backbone, "side": method, "head": model.heads}
        with MemoryTracker(model, regions) as tracker:
            loss = model.loss(tiny_inputs(method.backbone))
            saved[name] = tracker.total_bytes - tracker.start_bytes
            loss.backward()
    assert saved["lora@fa"] < saved["lora"]


@pytest.mark.parametrize("name", ["lora", "bitfit"])
def test_an_untrained_update_changes_nothing(name):
    backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
    inputs = tiny_inputs(backbone)
    plain = build_method("linear_probe", backbone)(inputs)["joint"].output
    method = build_method(name, TinyBackbone.build(TinyConfig(width=32, heads=4))).eval()
    assert torch.allclose(method(inputs)["joint"].output, plain, atol=1e-6)


def test_a_fused_projection_is_updated_in_its_own_rows():
    sizes = {"width": 32, "heads": 4, "image_layers": 1, "text_layers": 1, "joint_layers": 1}
    backbone = ScenesVL.build(ScenesVLConfig(**sizes), weights="random")
    build_method("lora", backbone, ("image",), dropout=0.0, targets=("value",), rank=2)
    layer = backbone.get_submodule("image.blocks.0.attn.qkv")
    x = torch.randn(1, 5, 32)
    plain = F.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), plain)
    (hook,) = layer._forward_hooks.values()
    nn.init.ones_(hook.args[0].up)
    changed = (layer(x) != plain).any(0).any(0)
    assert changed.tolist() == [False] * 64 + [True] * 32


def test_bitfit_adds_a_bias_to_all_but_the_norms_that_end_the_stacks():
    backbone = small_t5()
    method = build_method("bitfit", backbone, ("decoder",))
    names = {n for n, p in method.backbone.named_parameters() if p.requires_grad}
    assert "lm_head.bias" in names
    assert not any("relative_attention_bias" in n or "weight" in n for n in names)
    assert len(method.added) == 2 * 2 + 3 * 2  # norms of encoder and decoder blocks


def test_without_biases_bitfit_needs_to_add_them():
    with pytest.raises(UserError, match=r"T5 has no biases to train; leave method\.add=true"):
        build_method("bitfit", small_t5(), ("decoder",), add=False)


def test_a_prompt_starts_as_the_first_rows_of_the_embedding():
    backbone = small_t5()
    method = build_method("prompt", backbone, ("decoder",), tokens=60)
    prompt, table = method.prompts["encoder"], backbone.shared.weight
    assert torch.equal(prompt[:50], table)
    assert torch.equal(prompt[50:], table[:10])


def test_a_prompt_changes_what_the_decoder_writes():
    backbone = small_t5()
    inputs = {
        **backbone.processors()["text"](["a", "b"]),
        "decoder_input_ids": torch.zeros(2, 1).long(),
    }
    method = build_method("prompt", backbone, ("decoder",), tokens=3).eval()
    before = method(inputs)["decoder"].output
    nn.init.normal_(method.prompts["encoder"], std=3.0)
    assert not torch.allclose(method(inputs)["decoder"].output, before, atol=1e-3)


def test_a_prompt_needs_a_text():
    with pytest.raises(UserError, match="needs a text stream; the head reads image"):
        build_method("prompt", reads=("image",))


@settings(max_examples=15)
@given(width=st.integers(1, 6), seed=st.integers(0, 100))
def test_the_parts_of_qst_are_their_equations(width, seed):
    torch.manual_seed(seed)
    down = LowRankDown(8, 3, width).double()
    x, other = torch.randn(2, 8, dtype=torch.float64), torch.randn(2, width, dtype=torch.float64)
    inner = down.inner.weight @ x[0]
    outer = down.outer.weight @ (inner * torch.sigmoid(inner))
    variance = outer.var(correction=0)
    expected = (outer - outer.mean()) / torch.sqrt(variance + 1e-5)
    assert torch.allclose(down(x)[0], expected, atol=1e-6)
    gate = VectorGate(width, 0.5).double()
    share = 1 / (1 + torch.exp(torch.tensor(-0.5, dtype=torch.float64)))
    mixed = share * down(x) + (1 - share) * other
    assert torch.allclose(gate(down(x), other), mixed, atol=1e-6)


@pytest.mark.parametrize("name", ["lora", "bitfit", "prompt"])
def test_only_the_added_parameters_train(name):
    method = build_method(name, small_t5(), ("decoder",))
    model = ProbedModel(method)
    inputs = {
        **method.backbone.processors()["text"](["a", "b"]),
        **method.backbone.processors()["target"](["c", "d"]),
    }
    model.loss(inputs).backward()
    trained = {id(p) for part in method.parts().values() for p in part}
    for parameter in method.parameters():
        assert (parameter.grad is not None) <= (id(parameter) in trained)
