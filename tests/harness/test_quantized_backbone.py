"""A backbone that is quantised before any method: its storage, its memory, its runs."""

from pathlib import Path

import pytest
import torch

from harness.adaptation import load_adaptation
from harness.backbones.quantize import QuantizeConfig
from harness.cards import LOW_BIT, METHODS
from harness.config import RunConfig, resolve
from harness.errors import ConfigError, UserError
from harness.memory.measure import measure
from harness.memory.step import StepProgram
from harness.model import build_model, build_task
from harness.registry import import_attribute
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.methods import ProbedModel, build_method, snapshot, train_steps
from harness.testing.runs import interrupt_at, small_request

KINDS = ["rtn", "gptq", "nf4"]
REFUSED = [n for n in METHODS.names() if METHODS.card(n).full_precision]
FROZEN = [n for n in METHODS.names() if n not in (*REFUSED, "mp_ismoe")]


def low_bit_backbone(**settings) -> TinyBackbone:
    backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
    backbone.low_bit = import_attribute(LOW_BIT)(backbone, QuantizeConfig(**settings))
    return backbone


def config(method: str, *overrides: str) -> RunConfig:
    return resolve(small_request(method, "train.epochs=2", "memory.predict=false", *overrides))


def options(output: Path) -> RunOptions:
    return RunOptions(output=output, tracking_uri="off", verbosity=-1)


@pytest.mark.parametrize("kind", ["rtn", "nf4"])
@pytest.mark.parametrize("name", FROZEN)
def test_every_frozen_method_trains_on_codes_that_stay(name, kind):
    method = build_method(name, low_bit_backbone(quantize=kind))
    model = ProbedModel(method)
    trained = {n for n, p in method.backbone.named_parameters() if p.requires_grad}
    before, key = snapshot(method.backbone), method.backbone.low_bit.state_hash()
    first = model.loss(tiny_inputs(method.backbone))
    train_steps(model, tiny_inputs(method.backbone), steps=2)
    assert model.loss(tiny_inputs(method.backbone)) != first
    assert method.backbone.low_bit.state_hash() == key
    after = snapshot(method.backbone)
    assert all(n in trained or torch.equal(after[n], before[n]) for n in before)


def test_experts_on_codes_of_the_backbone_tell_the_backbones_error(tmp_path):
    asked = config("mp_ismoe@ismoe", "backbone.quantize=rtn", "memory.profile=false")
    found = run(asked, options(tmp_path))
    assert found.quality.quantization_mse > 0
    assert found.quality.layer_quantization_mse
    assert found.quality.dead_experts is not None


@pytest.mark.parametrize(("name", "kind"), [("lora", "nf4"), ("lst", "rtn")])
def test_no_dequantised_weight_is_saved_and_memory_is_predicted(name, kind):
    model = ProbedModel(build_method(name, low_bit_backbone(quantize=kind))).train()
    backbone, inputs = model.method.backbone, tiny_inputs(model.method.backbone)
    weights = [weight.dequantize() for weight in _weights(backbone).values()]
    saved = []

    def pack(tensor):
        saved.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.loss(inputs)
    assert saved
    assert not any(torch.equal(s, w) or torch.equal(s, w.T) for s in saved for w in weights)
    report = measure(
        StepProgram(
            model=model,
            regions={"backbone": backbone, "side": model.method, "head": model.heads},
            make_batch=lambda: inputs,
            output=lambda m, batch: m(batch),
            loss=lambda m, output, batch: m.loss_of(output),
            make_optimizer=lambda m: torch.optim.AdamW(m.trained(), lr=1e-3),
        )
    )
    assert report.predicted_train_peak_bytes == report.traced_train_peak_bytes
    assert report.at_peak_bytes["quantized_weights"] == sum(
        weight.code_bytes for weight in _weights(backbone).values()
    )


def _weights(backbone):
    return {n: m for n, m in backbone.named_modules() if hasattr(m, "code_bytes")}


@pytest.mark.parametrize("kind", KINDS)
def test_four_bits_are_stored_in_half_a_byte(kind):
    backbone = low_bit_backbone(quantize=kind, quantize_embeddings=False)
    weights = _weights(backbone).values()
    assert len(weights) > 5
    assert all(2 * weight.code_bytes == weight.shape.numel() for weight in weights)


def test_the_gradient_of_an_input_is_that_of_the_dequantised_weight():
    backbone = low_bit_backbone(quantize="nf4")
    layer = next(m for m in backbone.modules() if hasattr(m, "in_features"))
    x = torch.randn(3, layer.in_features, requires_grad=True)
    layer(x).square().sum().backward()
    plain = x.detach().clone().requires_grad_()
    torch.nn.functional.linear(
        plain, layer.weight.dequantize(), layer.bias
    ).square().sum().backward()
    assert torch.allclose(x.grad, plain.grad)


def test_gptq_resumes_as_if_it_had_not_stopped_and_its_adaptation_loads(tmp_path, monkeypatch):
    asked = config("unipt", "backbone.quantize=gptq", "memory.profile=false")
    whole = run(asked, options(tmp_path / "whole"))
    assert whole.status == "done"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        run(asked, options(tmp_path / "parts"))
    resumed = run(asked, options(tmp_path / "parts"))
    assert resumed.core() == whole.core()
    assert whole.quality.quantization_mse > 0
    assert whole.memory is None
    folder = (tmp_path / "parts" / resumed.artifacts["adaptation"].path).parent
    model, _ = load_adaptation(folder, device="cpu")
    task = build_task(asked)
    rounded = build_model(asked, task, torch.device("cpu")).model.method.backbone
    assert model.method.backbone.low_bit.state_hash() not in ("", rounded.low_bit.state_hash())


@pytest.mark.parametrize("method", [*REFUSED, "mp_ismoe"])
def test_impossible_pairs_are_refused(method):
    with pytest.raises(ConfigError, match=r"backbone\.quantize=nf4"):
        config(method, "backbone.quantize=nf4")


def test_what_needs_full_precision_is_full_tuning_and_the_peft_library():
    assert REFUSED == ["full", "peft"]
    with pytest.raises(UserError, match="peft's hra refuses TinyBackbone"):
        build_method("peft:hra", low_bit_backbone(quantize="nf4"))


def test_experts_without_their_own_quantiser_go_with_any():
    assert config("mp_ismoe@ismoe", "backbone.quantize=gptq").backbone.quantize.quantize == "gptq"


def test_qlora_is_a_name_for_lora_on_nf4_with_recomputed_blocks():
    asked = config("lora@qlora")
    assert asked.backbone.quantize.quantize == "nf4"
    assert asked.train.grad_checkpoint
    backbone = build_model(asked, build_task(asked), torch.device("cpu")).model.method.backbone
    assert {type(weight).__name__ for weight in _weights(backbone).values()} == {"Nf4Weight"}


@pytest.mark.slow
def test_qlora_is_predicted_to_the_byte(tmp_path):
    asked = config("lora@qlora", "memory.predict=true", "train.epochs=1", "train.amp='off'")
    record = run(asked, options(tmp_path))
    assert record.status == "done"
    memory = record.memory
    assert 0 <= memory.train_peak_bytes - memory.predicted_train_peak_bytes <= 64
    assert memory.at_peak_bytes["quantized_weights"] > 0


def test_a_flag_is_stronger_than_what_a_preset_sets():
    assert config("qst@nf4").backbone.quantize.quantize == "nf4"
    assert config("qst@nf4", "backbone.quantize=rtn").backbone.quantize.quantize == "rtn"


def test_nf4_has_four_bits():
    with pytest.raises(ConfigError, match="nf4 has 4 bits"):
        config("lst", "backbone.quantize=nf4", "backbone.quantize_bits=8")
