"""Laws of measured memory: predicted = traced = allocator, to the byte, for transformer models."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_models import (
    Packed,
    bias_only,
    checkpointed,
    full,
    head_only,
    in_place_adapter,
    ladder,
    packed,
    program_of,
)
from torch import nn

from harness.memory.categories import CATEGORIES
from harness.memory.cuda import cuda_sizes
from harness.memory.cuda import dropout as cuda_dropout
from harness.memory.events import Event, replay
from harness.memory.measure import measure
from harness.memory.predict import predict, predict_built, predict_train_peak
from harness.memory.step import StepProgram

METHODS: list[Callable[..., StepProgram]] = [
    full,
    bias_only,
    head_only,
    in_place_adapter,
    ladder,
    packed,
]


@pytest.mark.parametrize("method", METHODS)
def test_predicted_equals_traced_equals_allocator(method):
    report = measure(method())
    assert report.predicted_train_peak_bytes == report.traced_train_peak_bytes
    assert 0 <= report.residual_bytes <= 64
    assert report.spread_bytes == 0
    assert report.source == "allocator"
    assert report.device == "cpu"


@pytest.mark.parametrize("method", METHODS)
def test_categories_sum_to_the_peak_at_every_point(method):
    report = measure(method(), prediction=False)
    assert tuple(report.at_peak_bytes) == CATEGORIES
    assert sum(report.at_peak_bytes.values()) == report.train_peak_bytes
    assert min(report.at_peak_bytes.values()) >= 0
    totals = [sum(point.bytes.values()) for point in report.timeline]
    assert max(totals) == report.train_peak_bytes
    phases = report.phase_peak_bytes
    assert max(phases["forward"], phases["backward"], phases["optimizer"]) == max(totals)
    assert phases["load"] <= phases["inference"] <= phases["eval"]


@pytest.mark.parametrize("method", [ladder, packed])
def test_side_networks_save_nothing_of_the_backbone(method):
    program = method()
    report = measure(program, prediction=False)
    trained = [p for p in program.model.parameters() if p.requires_grad]
    assert all(point.bytes.get("saved_backbone", 0) == 0 for point in report.timeline)
    assert max(p.bytes.get("saved_side", 0) for p in report.timeline) > 0
    highest = max(point.bytes.get("gradients", 0) for point in report.timeline)
    assert highest == sum(p.nbytes for p in trained)


def test_full_training_saves_the_backbone_and_head_training_does_not():
    assert measure(full(), prediction=False).at_peak_bytes["saved_backbone"] > 0
    timeline = measure(head_only(), prediction=False).timeline
    assert all(point.bytes.get("saved_backbone", 0) == 0 for point in timeline)
    assert max(point.bytes.get("saved_head", 0) for point in timeline) > 0


def test_saved_bytes_of_a_ladder_do_not_depend_on_the_width_of_the_backbone_mlp():
    def most_saved(ratio: int) -> int:
        timeline = predict(ladder(ratio=ratio)).timeline
        return max(point.bytes.get("saved_side", 0) for point in timeline)

    assert most_saved(2) == most_saved(8)


@pytest.mark.parametrize("method", METHODS)
def test_adamw_state_is_twice_the_trainable_bytes_and_a_step_count_each(method):
    program = method()
    trained = [p for p in program.model.parameters() if p.requires_grad]
    state = predict(program).at_peak_bytes["optimizer_state"]
    assert state == sum(2 * p.nbytes + 4 for p in trained)


def test_packed_codes_and_their_metadata_have_their_own_categories():
    program = packed()
    at_peak = measure(program, prediction=False).at_peak_bytes
    layers = [m for m in program.model.modules() if isinstance(m, Packed)]
    assert at_peak["quantized_weights"] == sum(layer.codes.nbytes for layer in layers)
    assert at_peak["quantization_metadata"] == sum(
        layer.scale.nbytes + layer.zero.nbytes for layer in layers
    )


def test_checkpointing_saves_memory_and_leaves_the_random_state_as_workspace():
    plain, saving = measure(full(depth=4)), measure(checkpointed(depth=4))
    assert saving.train_peak_bytes < plain.train_peak_bytes
    assert saving.predicted_train_peak_bytes == saving.traced_train_peak_bytes
    generator_bytes = torch.get_rng_state().nbytes
    assert 0 <= saving.residual_bytes <= 4 * generator_bytes + 64


@settings(max_examples=3)
@given(
    batch=st.integers(1, 5),
    length=st.integers(1, 24),
    heads=st.sampled_from([1, 2, 4]),
    depth=st.integers(1, 3),
    method=st.sampled_from(METHODS),
    dropout=st.sampled_from([0.0, 0.1]),
)
def test_prediction_is_exact_for_any_shape(batch, length, heads, depth, method, dropout):
    program = method(batch=batch, length=length, heads=heads, depth=depth, dropout=dropout)
    report = measure(program)
    assert report.predicted_train_peak_bytes == report.traced_train_peak_bytes
    assert 0 <= report.residual_bytes <= 64


@pytest.mark.parametrize("method", METHODS)
def test_the_peak_grows_with_the_batch(method):
    peaks = [predict(method(batch=n)).train_peak_bytes for n in (1, 2, 4)]
    assert peaks == sorted(set(peaks))


@pytest.mark.parametrize("method", METHODS)
def test_training_fewer_parameters_never_raises_the_peak(method):
    program = method()
    before = predict(program).train_peak_bytes
    next(p for p in program.model.parameters() if p.requires_grad).requires_grad_(False)
    assert predict(program).train_peak_bytes <= before


def test_inference_needs_no_optimizer_state_and_no_gradients():
    program = full()
    report = predict(program)
    trained = sum(p.nbytes for p in program.model.parameters())
    assert report.phase_peak_bytes["eval"] - report.inference_peak_bytes >= 2 * trained
    assert report.inference_peak_bytes == measure(program).inference_peak_bytes


def test_a_parameter_without_a_gradient_has_no_state():
    program = full()
    program.model.unused = nn.Parameter(torch.zeros(5))
    predicted, measured = predict(program), measure(program)
    assert predicted.train_peak_bytes == measured.traced_train_peak_bytes
    for phase, nbytes in predicted.phase_peak_bytes.items():
        assert 0 <= measured.phase_peak_bytes[phase] - nbytes <= 64
    assert predicted.inference_peak_bytes == measured.inference_peak_bytes
    assert sum(predicted.at_peak_bytes.values()) == predicted.train_peak_bytes
    plain = predict(full()).at_peak_bytes
    assert predicted.at_peak_bytes == plain | {"trainable_weights": plain["trainable_weights"] + 20}


def test_measuring_leaves_the_model_and_the_random_state_untouched():
    program = full()
    model = program.model
    model.register_buffer("seen", torch.zeros(3))
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()

    measure(program)

    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert first.grad is not None
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(p.grad is None for p in list(model.parameters())[1:])
    assert not any(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_failing_step_restores_the_model():
    def fail(model: nn.Module, output: Any, batch: Any) -> torch.Tensor:
        with torch.no_grad():
            next(model.parameters()).zero_()
        raise RuntimeError("no memory left")

    program = replace(full(), loss=fail)
    before = next(program.model.parameters()).clone()
    with pytest.raises(RuntimeError, match="no memory left"):
        measure(program, prediction=False)
    assert torch.equal(next(program.model.parameters()), before)


def test_accumulation_keeps_gradients_through_the_later_passes():
    once, twice = full(), replace(full(), accumulation_steps=2)
    gradients = sum(p.nbytes for p in once.model.parameters())
    difference = (
        predict(twice).phase_peak_bytes["forward"] - predict(once).phase_peak_bytes["forward"]
    )
    assert difference == gradients
    report = measure(twice)
    assert report.predicted_train_peak_bytes == report.traced_train_peak_bytes


def test_a_model_built_on_fake_tensors_predicts_the_same():
    assert predict_built(partial(full, batch=3)) == predict(full(batch=3))


def test_tensors_count_wherever_the_model_is():
    """As on a GPU, whose tensors are no CPU tensors: ``meta`` stands for it."""

    def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1)  # its state has no counters on the CPU

    here, elsewhere = (replace(full(), make_optimizer=make_optimizer) for _ in range(2))
    elsewhere.model.to("meta")
    batch = {name: tensor.to("meta") for name, tensor in elsewhere.make_batch().items()}
    moved = replace(elsewhere, make_batch=lambda: batch)
    assert predict_train_peak(moved) == predict_train_peak(here)
    assert predict(moved).at_peak_bytes == predict(here).at_peak_bytes


@pytest.mark.parametrize("again", [False, True])
def test_autocast_leaves_on_cuda_more_in_fp32(again):
    program = (checkpointed if again else full)(dropout=0.0, batch=8)
    assert predict_train_peak(program, target="cuda") == predict_train_peak(program)
    autocast = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    low = replace(program, precision=autocast)
    assert predict_train_peak(low, target="cuda") > predict_train_peak(low)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: nn.functional.layer_norm(x, x.shape[-1:]),
        lambda x: x.softmax(-1),
        lambda x: torch.softmax(x, -1),
        lambda x: nn.functional.softmax(x, dim=-1),
        lambda x: x.pow(2),
        lambda x: x**2,
        lambda x: torch.exp(x),
        lambda x: x.sum(),
    ],
)
def test_what_cudas_autocast_computes_in_fp32(operation):
    x = torch.randn(2, 4, dtype=torch.bfloat16)
    with cuda_sizes():
        assert operation(x).dtype == torch.bfloat16
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert operation(x).dtype == torch.float32
            assert torch.nn.functional.gelu(x).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert operation(x).dtype == torch.bfloat16


def test_cuda_keeps_one_byte_of_dropout_mask_an_element():
    cpu, cuda = predict(full(dropout=0.1)), predict(full(dropout=0.1), target="cuda")
    assert cuda.at_peak_bytes["saved_backbone"] < cpu.at_peak_bytes["saved_backbone"]
    assert cuda.device == "cuda"


def test_cudas_dropout_is_a_dropout():
    x = torch.randn(7, requires_grad=True)
    assert cuda_dropout(x, 0.5, training=False) is x
    assert set((cuda_dropout(x, 0.5) / x).tolist()) <= {0.0, 2.0}


def test_convolutions_show_their_kernel_workspace():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Flatten(), nn.LazyLinear(2))
    images = torch.randn(4, 3, 12, 12)
    model(images)
    report = measure(program_of(model, {"head": model}, lambda: images))
    assert report.residual_bytes >= 0
    assert sum(report.at_peak_bytes.values()) == report.train_peak_bytes


def test_replay_charges_blocks_without_a_tensor_to_the_kernels():
    events = [Event(0, "phase", label="forward"), Event(1, "seen", 0, "inputs", 10, 77)]
    result = replay(events)
    assert result.peak_bytes == 10
    assert result.at_peak_bytes["inputs"] == 10


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_on_cuda_the_categories_sum_and_each_phase_has_allocator_peaks(method):
    program = method()
    make_batch = lambda: {name: value.cuda() for name, value in method().make_batch().items()}
    report = measure(replace(program, model=program.model.cuda(), make_batch=make_batch))
    assert report.device.startswith("cuda:")
    assert sum(report.at_peak_bytes.values()) == report.train_peak_bytes
    assert report.residual_bytes >= 0
    assert set(report.allocator_bytes) == {"forward", "backward", "optimizer", "eval", "inference"}
    for peaks in report.allocator_bytes.values():
        assert peaks["requested"] <= peaks["allocated"] <= peaks["reserved"]
