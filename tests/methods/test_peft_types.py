"""Every type of the peft library that ``peft:TYPE`` names, and why the others are refused."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from harness.adaptation import load_adaptation
from harness.cards import METHODS
from harness.config import RunRequest, resolve
from harness.counting import count_parameters
from harness.data import Examples
from harness.errors import ConfigError, UserError
from harness.memory.measure import measure
from harness.memory.step import StepProgram
from harness.model import build_task
from harness.recompute import recompute_blocks
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.methods import ProbedModel, build_method, train_steps
from harness.testing.runs import interrupt_at, small_request
from harness.testing.small import random_inputs, small_backbone
from methods.peft import CARD
from methods.peft.settings import setting_names
from methods.peft.types import MADE_OF_WEIGHTS, READS_VALUES, REFUSED, PeftType

TYPES = get_args(PeftType)
CHANGED_AT_ONCE = {"c3a", "unilora", "vblora"}
"""The types whose own initialisation changes the outputs."""
WITH_GRADIENT_HOOKS = {"osf"}
"""The types whose gradients pass hooks, which a copy of fake tensors has not."""


def tiny() -> TinyBackbone:
    return TinyBackbone.build(TinyConfig(width=32, heads=4, depth=1))


def adapted(kind: str, seed: int = 0, **settings) -> ProbedModel:
    return ProbedModel(build_method(f"peft:{kind}", tiny(), ("text",), seed, **settings))


@cache
def frozen_output() -> torch.Tensor:
    backbone = tiny()
    with torch.no_grad():
        return backbone.encode("text", tiny_inputs(backbone), {}).output


def output(model: ProbedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.method.eval()(tiny_inputs(model.method.backbone))["text"].output


def tensors(method) -> dict[str, torch.Tensor]:
    """Return copies of all parameters and buffers, a shared one under one name."""
    held = (*method.named_parameters(), *method.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in held}


def test_the_types_are_all_that_peft_registers():
    registered = {kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    assert set(TYPES) | set(REFUSED) == registered
    assert not set(TYPES) & set(REFUSED)
    assert list(CARD.presets) == sorted(TYPES)
    assert list(CARD.aliases) == [f"peft:{kind}" for kind in sorted(TYPES)]


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_starts_as_the_frozen_backbone(kind):
    same = torch.allclose(output(adapted(kind)), frozen_output(), atol=1e-5)
    assert same == (kind not in CHANGED_AT_ONCE)


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_trains_what_it_adds_and_nothing_else(kind):
    model = adapted(kind)
    method = model.method
    before = tensors(method)
    named = {id(p): name for name, p in method.named_parameters()}
    trained = [named[id(p)] for part in method.parts().values() for p in part]
    assert trained
    assert len(trained) == len(set(trained))
    assert set(trained) == {n for n, p in method.named_parameters() if p.requires_grad}
    model.loss(tiny_inputs(method.backbone)).backward()
    assert {n for n, p in method.named_parameters() if p.grad is not None} == set(trained)
    train_steps(model, tiny_inputs(method.backbone), steps=2)
    after = tensors(method)
    assert {n for n, value in after.items() if not torch.equal(value, before[n])} <= set(trained)
    assert not torch.allclose(output(model), frozen_output(), atol=1e-5)


@pytest.mark.parametrize("kind", TYPES)
def test_what_a_type_saves_gives_the_same_outputs(kind):
    model = adapted(kind)
    train_steps(model, tiny_inputs(model.method.backbone), steps=2)
    other = adapted(kind, seed=1)
    other.method.load_extra_state(model.method.extra_state())
    with torch.no_grad():
        for new, old in zip(other.method.trained, model.method.trained, strict=True):
            new.copy_(old)
    assert torch.equal(output(other), output(model))


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_a_step_of_a_type_is_counted_and_predicted_to_the_byte(kind):
    model = adapted(kind).train()
    method, inputs = model.method, tiny_inputs(model.method.backbone)
    program = StepProgram(
        model=model,
        regions={"backbone": method.backbone, "side": method, "head": model.heads},
        make_batch=lambda: inputs,
        output=lambda m, batch: m(batch),
        loss=lambda m, output, batch: m.loss_of(output),
        make_optimizer=lambda m: torch.optim.AdamW(m.trained(), lr=1e-3),
        clip_norm=1.0,
    )
    report = measure(program, prediction=kind not in READS_VALUES)
    traced = report.traced_train_peak_bytes
    assert sum(report.at_peak_bytes.values()) == report.train_peak_bytes
    if kind not in READS_VALUES:
        tolerance = 0.005 * traced if kind in WITH_GRADIENT_HOOKS else 0
        assert abs(report.predicted_train_peak_bytes - traced) <= tolerance


def problems(method: str, *overrides: str, **fields) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        resolve(RunRequest(method=method, task="vqa", overrides=overrides, **fields))
    return caught.value.problems


def test_a_name_stands_for_a_type():
    chosen = METHODS.choose("peft:ia3")
    assert (chosen.card.name, chosen.preset, chosen.label) == ("peft", "ia3", "peft:ia3")
    named = resolve(RunRequest(method="peft:hra", task="vqa")).method
    assert (named.preset, named.config.type) == ("hra", "hra")
    assert METHODS.choose("peft").card.config().type == "vera"
    for method in ("peft", "peft:ia3"):
        (found,) = problems(method, "method.type=hra")
        assert "with these settings is 'peft:hra'; write 'peft:hra'" in found


@pytest.mark.parametrize("kind", REFUSED)
def test_a_type_that_needs_more_than_layers_is_refused_with_the_reason(kind):
    (found,) = problems(f"peft:{kind}")
    assert found.startswith(f"Method 'peft:{kind}' cannot be used: ")
    assert REFUSED[kind] in found
    assert "peft:ia3, peft:lily" in found
    (found,) = problems("peft", f"method.type={kind}")
    assert REFUSED[kind] in found


def test_an_unknown_type_names_the_nearest():
    assert "Did you mean 'peft:ia3'" in problems("peft:ia33")[0]
    assert "Did you mean 'loha'?" in problems("peft", "method.type=lohaa")[0]


def test_all_wrong_settings_are_reported_together():
    found = problems(
        "peft:loha",
        "method.settings.rr=4",
        "method.settings.alpha=many",
        "method.settings.target_modules=[q]",
        "method.settings.bias=all",
        "train.lr=-1",
    )
    for expected in (
        "Unknown field 'method.settings.rr' of peft's loha. Did you mean 'r'?",
        "method.settings.alpha=many: Input should be a valid integer",
        "method.settings.target_modules: method.targets says which layers change.",
        "Unknown field 'method.settings.bias' of peft's loha.",
        "train.lr=-1",
    ):
        assert any(text.startswith(expected) for text in found), expected
    assert len(found) == 5


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_has_settings_of_its_own(kind):
    names = setting_names(kind)
    assert names or kind == "ln_tuning"
    assert not {"target_modules", "modules_to_save", "bias", "task_type"} & set(names)
    resolve(RunRequest(method=f"peft:{kind}", task="vqa"))


def test_settings_reach_the_library():
    sizes = {
        r: sum(p.numel() for p in adapted("loha", settings={"r": r}).method.trained) for r in (2, 4)
    }
    assert sizes == {r: 2 * 4 * 32 * r for r in (2, 4)}  # query and value, two pairs of factors


def test_what_the_library_refuses_is_said_in_one_message():
    found = problems("peft:road", "method.settings.group_size=3")
    assert found[0].startswith("method.settings={'group_size': 3}: The group_size must be")
    with pytest.raises(UserError, match="peft's c3a refuses TinyBackbone"):
        adapted("c3a", settings={"block_size": 5})


def test_frozen_weights_are_not_rewritten():
    with pytest.raises(UserError, match="peft's lora rewrites the frozen weights"):
        adapted("lora", settings={"init_lora_weights": "pissa"})


def test_targets_are_the_layers_that_change():
    for target in ("query", "key", "value", "output", "up", "down"):
        model = adapted("beft", targets=(target,))
        [wrapper] = model.method.wrappers
        width = {"up": 64}.get(target, 32)
        assert sum(p.numel() for p in model.method.trained) == width
        assert wrapper.get_base_layer().out_features == width


def test_ia3_scales_keys_values_and_the_hidden_layer():
    method = adapted("ia3").method
    assert sorted(p.numel() for p in method.trained) == [32, 32, 64]


def test_norm_tuning_trains_the_norms_of_the_needed_streams():
    method = adapted("ln_tuning").method
    assert sum(p.numel() for p in method.trained) == 3 * 2 * 32


def test_the_total_counts_what_was_put_inside_the_backbone():
    params = count_parameters("peft:beft", "t5-base")
    assert params.trainable == params.parts["adapters"] == 36 * 2 * 768
    assert params.total == params.denominator + params.trainable


@pytest.mark.parametrize("name", ["scenes_vl", "bert", "clip", "timm_vision", "mdetr", "t5"])
def test_every_transformer_carries_it_with_recomputed_blocks_too(name):
    backbone = small_backbone(name)
    plain = ProbedModel(build_method("peft:ia3", backbone, backbone.paper_reads)).train()
    saving = copy.deepcopy(plain)
    recompute_blocks(saving.method.backbone)
    for model in (plain, saving):
        model.loss(random_inputs(backbone, ["is there a red circle?", "no"])).backward()
    for expected, same in zip(plain.method.trained, saving.method.trained, strict=True):
        assert expected.grad is not None
        assert torch.allclose(expected.grad, same.grad, atol=1e-6)


def test_a_backbone_without_such_layers_is_refused():
    backbone = small_backbone("vse")
    with pytest.raises(UserError, match="changes linear layers, of which"):
        build_method("peft:ia3", backbone, ("image",))


def test_a_quantised_backbone_is_refused():
    (found,) = problems("peft:ia3", "backbone.quantize=nf4")
    assert "backbone.quantize=nf4: method 'peft' needs the blocks' weights" in found


def test_the_missing_package_is_named_before_anything_loads(monkeypatch):
    monkeypatch.setattr("harness.compatibility.find_spec", lambda _: None)
    (found,) = problems("peft:ia3")
    assert found.endswith("run: pip install 'metl-harness[peft]'")
    with pytest.raises(ConfigError, match=r"Method 'peft:ia3' needs the package 'peft'"):
        count_parameters("peft:ia3", "t5-base")


def test_a_run_is_named_by_its_type_resumes_and_loads_again(tmp_path: Path, monkeypatch):
    overrides = ("train.epochs=2", "memory.profile=false", "method.settings.r=4")
    config = resolve(small_request("peft:shira", *overrides, limit=32))
    whole = run(config, RunOptions(tmp_path / "whole", "off", -1))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        run(config, RunOptions(tmp_path / "parts", "off", -1))
    resumed = run(config, RunOptions(tmp_path / "parts", "off", -1))
    assert whole.status == "done"
    assert (whole.method, whole.preset) == ("peft:shira", None)
    assert resumed.core() == whole.core()
    folder = tmp_path / "whole" / whole.artifacts["adaptation"].path
    model, task = load_adaptation(folder.parent, device="cpu")
    examples = Examples(build_task(config).load(32), model.method.backbone, torch.device("cpu"))
    lines = (tmp_path / "whole" / whole.artifacts["predictions"].path).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    with torch.no_grad():
        batch = examples.batch("test", torch.arange(len(rows)).numpy())
        answers = [task.answers[i] for i in task.predict(model(batch.inputs)).tolist()]
    assert answers == [row["prediction"] for row in rows]


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_is_counted_without_weights_unless_it_reads_them(kind):
    if kind in MADE_OF_WEIGHTS:
        with pytest.raises(UserError, match=f"peft's {kind} makes its layers from the weights"):
            count_parameters(f"peft:{kind}", "bert-base")
    else:
        params = count_parameters(f"peft:{kind}", "bert-base")
        assert params.trainable == params.parts["adapters"] > 0
