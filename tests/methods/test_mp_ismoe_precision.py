"""Low-Pre and Mixed-Pre: what is stored, what is computed, and what memory each costs."""

import pytest
import torch

from harness.memory.measure import measure
from harness.memory.step import StepProgram
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.methods import ProbedModel, TinyContext, build_method, train_steps
from harness.testing.small import random_inputs, small_backbone
from methods.quantization.modules import QuantizedLinear

LOW, MIXED = "mp_ismoe@low_pre", "mp_ismoe@mixed_pre"


def dtypes(name: str, **settings) -> tuple[set[torch.dtype], set[torch.dtype]]:
    """Return the types of the frozen and of the trained parameters."""
    method = build_method(name, **settings)
    parameters = list(method.parameters())
    return tuple({p.dtype for p in parameters if p.requires_grad == g} for g in (False, True))


@pytest.mark.parametrize("host", ["unipt", "lst", "sherl"])
def test_low_keeps_no_fp32_weight_and_mixed_keeps_masters(host):
    assert dtypes(LOW, host=host) == ({torch.bfloat16}, {torch.bfloat16})
    assert dtypes(MIXED, host=host) == ({torch.float32}, {torch.float32})


@pytest.mark.parametrize(
    ("name", "settings", "phases"),
    [
        (LOW, {}, ["requantize"]),
        (LOW, {"host": "lst"}, ["requantize"]),
        (LOW, {"host": "sherl", "noise": "none"}, []),
        (LOW, {"noise": "none", "correlation": "off"}, []),
        (MIXED, {"correlation": "off"}, ["requantize"]),
    ],
)
def test_each_precision_trains(name, settings, phases):
    method = build_method(name, **settings)
    model = ProbedModel(method)
    inputs = tiny_inputs(TinyBackbone.build(TinyConfig()))
    context = TinyContext(model, inputs, epochs=2)
    first = model.loss(inputs).item()
    method.on_fit_start(context)
    for epoch in range(2):
        method.on_epoch_start(context, epoch)
        train_steps(model, inputs, steps=8)
    assert model.loss(inputs).item() < 0.8 * first
    assert context.phases == phases


@pytest.mark.parametrize("name", [LOW, MIXED])
def test_the_backbone_computes_in_16_bits_and_the_head_reads_fp32(name):
    method = build_method(name).eval()
    seen: set[torch.dtype] = set()
    for module in method.backbone.modules():
        if isinstance(module, QuantizedLinear):
            module.register_forward_hook(lambda _m, _x, y: seen.add(y.dtype))
    inputs = tiny_inputs(TinyBackbone.build(TinyConfig()))
    with torch.no_grad():
        output = method(inputs)["joint"].output
        exact = build_method("mp_ismoe").eval()(inputs)["joint"].output
    assert seen == {torch.bfloat16}
    assert output.dtype == torch.float32
    assert 0 < (output - exact).square().mean() < 0.01 * exact.square().mean()


def peak(name: str, **settings) -> dict[str, int]:
    """Return bytes by category at the peak of a training step of 8 rows."""
    model = ProbedModel(build_method(name, **settings))
    inputs = tiny_inputs(TinyBackbone.build(TinyConfig()), ["a red circle and a blue one"] * 8)
    program = StepProgram(
        model=model,
        regions={"backbone": model.method.backbone, "side": model.method, "head": model.heads},
        make_batch=lambda: inputs,
        output=lambda m, batch: m(batch),
        loss=lambda m, output, batch: m.loss_of(output),
        make_optimizer=lambda m: torch.optim.AdamW(m.trained(), lr=1e-3),
    )
    report = measure(program, prediction=False)
    return {**report.at_peak_bytes, "peak": report.train_peak_bytes}


def test_memory_falls_from_full_to_mixed_to_low():
    full, mixed, low = (peak(n) for n in ("mp_ismoe", MIXED, LOW))
    assert mixed["saved_side"] < 0.8 * full["saved_side"]
    assert mixed["trainable_weights"] == full["trainable_weights"]
    assert low["trainable_weights"] < 0.6 * mixed["trainable_weights"]  # the head stays fp32
    assert low["frozen_weights"] * 2 == mixed["frozen_weights"]
    assert low["quantized_weights"] == mixed["quantized_weights"]
    assert low["peak"] < mixed["peak"] < full["peak"]


def test_stored_features_of_one_precision_are_not_another_ones():
    hashes = {build_method(n).backbone_state_hash() for n in ("mp_ismoe", MIXED, LOW)}
    assert len(hashes) == 3


@pytest.mark.parametrize("backbone", ["t5", "bert"])
def test_real_blocks_run_in_low_precision(backbone):
    model = small_backbone(backbone)
    inputs = random_inputs(model, ["a red circle", "no"])
    method = build_method(LOW, model, (model.specs[-1].name,))
    output = method(inputs)[model.specs[-1].name].output
    assert output.dtype == torch.float32
    assert output.isfinite().all()
