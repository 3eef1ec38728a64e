"""Laws of the tracker: the books balance at every event, and bytes go to who keeps them."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_models import full, in_place_adapter, ladder, packed, program_of
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from harness.memory.categories import CATEGORIES, PHASES, PRIORITY, REGIONS, SAVED
from harness.memory.regions import current_region, executing, module_regions
from harness.memory.step import StepProgram, train_step
from harness.memory.tracker import MemoryTracker


class AuditedTracker(MemoryTracker):
    """Checks the books from the outside after every operation."""

    audits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self.audit()
        return result

    def audit(self) -> None:
        self.audits += 1
        assert sum(self.current_bytes.values()) == self.total_bytes
        assert min(self.current_bytes.values()) >= 0


def warm_optimizer(program: StepProgram, batch: Any) -> torch.optim.Optimizer:
    optimizer = program.make_optimizer(program.model)
    train_step(program, optimizer, batch, lambda name: torch.enable_grad())
    return optimizer


@settings(max_examples=6)
@given(
    method=st.sampled_from([full, in_place_adapter, ladder, packed]),
    batch=st.integers(1, 3),
    length=st.integers(1, 9),
)
def test_books_balance_at_every_event_and_a_step_returns_to_its_start(method, batch, length):
    program = method(batch=batch, length=length)
    inputs = program.make_batch()
    optimizer = warm_optimizer(program, inputs)
    with AuditedTracker(
        program.model, program.regions, optimizer=optimizer, inputs=inputs
    ) as tracker:
        train_step(program, optimizer, inputs, tracker.phase)
        tracker.audit()
        assert tracker.total_bytes == tracker.start_bytes
        assert tracker.current_bytes["temporaries"] == 0
        assert all(tracker.current_bytes[saved] == 0 for saved in SAVED.values())
    assert tracker.audits > 20
    assert sum(tracker.at_peak_bytes.values()) == tracker.peak_bytes
    assert max(tracker.phase_peak_bytes.values()) == tracker.peak_bytes


def test_resident_bytes_by_category():
    program = full()
    model = program.model
    model.head.requires_grad_(False)
    model.register_buffer("mask", torch.ones(7))
    model.cached = torch.ones(11)
    model.tied = model.head.weight
    inputs = program.make_batch()
    with MemoryTracker(model, program.regions, inputs=inputs) as tracker:
        found = dict(tracker.current_bytes)
    assert found["trainable_weights"] == sum(p.nbytes for p in model.backbone.parameters())
    assert found["frozen_weights"] == sum(p.nbytes for p in model.head.parameters())
    assert found["buffers"] == (7 + 11) * 4
    assert found["inputs"] == sum(value.nbytes for value in inputs.values())
    assert found["temporaries"] == 0


def saved_by(call, model: nn.Module, regions: dict[str, nn.Module], *inputs: Tensor):
    with MemoryTracker(model, regions, inputs=inputs) as tracker:
        kept = call()
        found = {name: tracker.current_bytes[SAVED[name]] for name in REGIONS}
        del kept
    return found


def test_a_tap_read_by_a_side_network_is_saved_by_the_side():
    backbone, side = nn.Linear(4, 8), nn.Linear(8, 2)
    backbone.requires_grad_(False)
    model = nn.ModuleList([backbone, side])
    x = torch.randn(3, 4)
    found = saved_by(lambda: side(backbone(x)), model, {"backbone": backbone, "side": side}, x)
    assert found == {"backbone": 0, "side": 3 * 8 * 4, "head": 0}


def test_a_storage_saved_twice_is_charged_once_to_the_backbone():
    backbone, side = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid()), nn.Linear(8, 2)
    model = nn.ModuleList([backbone, side])
    x = torch.randn(3, 4)
    found = saved_by(lambda: side(backbone(x)), model, {"backbone": backbone, "side": side}, x)
    assert found == {"backbone": 3 * 8 * 4, "side": 0, "head": 0}


def test_what_autograd_lets_go_is_no_longer_saved():
    layer = nn.Linear(4, 4)
    x = torch.randn(3, 4)
    with MemoryTracker(layer, {"side": layer}, inputs=x) as tracker:
        middle = layer(x)
        loss = layer(middle).sum()
        assert tracker.current_bytes["saved_side"] == middle.nbytes
        loss.backward()
        assert tracker.current_bytes["saved_side"] == 0
        assert tracker.current_bytes["temporaries"] == middle.nbytes + loss.nbytes
        assert tracker.current_bytes["gradients"] == sum(p.nbytes for p in layer.parameters())


def test_code_outside_modules_belongs_to_the_head_or_to_whom_it_names():
    model = nn.Linear(1, 1)
    x = torch.randn(5, requires_grad=True)

    def loss() -> Tensor:
        return x.exp()

    def named() -> Tensor:
        with executing("backbone"):
            return x.exp()

    assert saved_by(loss, model, {}, x) == {"backbone": 0, "side": 0, "head": 20}
    assert saved_by(named, model, {}, x) == {"backbone": 20, "side": 0, "head": 0}


def test_regions_follow_the_nearest_tagged_ancestor():
    program = in_place_adapter()
    backbone = program.regions["backbone"]
    owner = module_regions(program.model, program.regions)
    adapter = backbone.blocks[0]
    assert owner[backbone.embed] == "backbone"
    assert owner[adapter] == owner[adapter.down] == "side"
    assert owner[adapter.block.qkv] == "backbone"
    assert owner[program.model.head] == "head"
    assert owner[program.model] is None


def test_a_shared_module_belongs_to_the_backbone():
    shared = nn.Linear(2, 2)
    backbone, side = nn.Sequential(shared), nn.Sequential(shared)
    owner = module_regions(nn.ModuleList([side, backbone]), {"side": side, "backbone": backbone})
    assert owner[shared] == "backbone"


def test_the_region_is_restored_when_a_module_fails():
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert current_region() == "side"
            raise ValueError("no")

    model = nn.Sequential(Failing())
    with MemoryTracker(model, {"side": model}), pytest.raises(ValueError, match="no"):
        model(torch.ones(1))
    assert current_region() == "head"


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_composite_operations_are_seen_inside_in_every_gradient_mode(mode):
    model = nn.Linear(1, 1)
    x = torch.randn(1, 1, 64, 64)
    with mode(), MemoryTracker(model, {}, inputs=x) as tracker, tracker.phase("inference"):
        torch.nn.functional.cosine_similarity(x, x + 1, dim=-1)
    assert tracker.peak_bytes >= 2 * x.nbytes


class Halves(torch.Tensor):
    """A wrapper subclass that keeps its rows in two tensors."""

    @staticmethod
    def __new__(cls, top: Tensor, bottom: Tensor):
        size = (top.shape[0] + bottom.shape[0], *top.shape[1:])
        return torch.Tensor._make_wrapper_subclass(cls, size, dtype=top.dtype)

    def __init__(self, top: Tensor, bottom: Tensor) -> None:
        self.top, self.bottom = top, bottom

    def __tensor_flatten__(self):
        return ["top", "bottom"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return Halves(inner["top"], inner["bottom"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return Halves(args[0].top, args[0].bottom)
        whole = tree_map(
            lambda t: torch.cat((t.top, t.bottom)) if isinstance(t, Halves) else t, args
        )
        return func(*whole, **(kwargs or {}))


def test_a_wrapper_subclass_counts_by_its_inner_tensors():
    model = nn.Module()
    model.weight = nn.Parameter(Halves(torch.ones(2, 8), torch.ones(3, 8)), requires_grad=False)
    x = torch.ones(8)
    with MemoryTracker(model, {}, inputs=x) as tracker, tracker.phase("forward"):
        assert tracker.current_bytes["frozen_weights"] == 5 * 8 * 4
        y = model.weight @ x
        assert tracker.current_bytes["temporaries"] == y.nbytes
    assert tracker.peak_bytes >= tracker.start_bytes + 5 * 8 * 4


def test_gradients_accumulate_in_place():
    layer = nn.Linear(3, 3)
    x = torch.ones(1, 3)
    layer(x).sum().backward()
    with MemoryTracker(layer, {}, inputs=x) as tracker:
        before = tracker.current_bytes["gradients"]
        layer(x).sum().backward()
        assert tracker.current_bytes["gradients"] == before == 12 * 4


def test_the_first_step_charges_new_optimizer_state():
    program = full()
    inputs = program.make_batch()
    optimizer = program.make_optimizer(program.model)
    with MemoryTracker(program.model, {}, optimizer=optimizer, inputs=inputs) as tracker:
        train_step(program, optimizer, inputs, tracker.phase)
        trained = list(program.model.parameters())
        expected = sum(2 * p.nbytes + 4 for p in trained)
        assert tracker.current_bytes["optimizer_state"] == expected


def test_the_log_is_kept_only_on_request():
    model = nn.Linear(2, 2)
    with MemoryTracker(model, {}) as silent:
        model(torch.ones(1, 2))
    with MemoryTracker(model, {}, record=True) as recording:
        model(torch.ones(1, 2))
    assert silent.events == []
    assert {event.kind for event in recording.events} >= {"seen", "free"}


def test_unknown_words_are_refused():
    model = nn.Linear(1, 1)
    with MemoryTracker(model, {}) as tracker, pytest.raises(ValueError, match="unknown phase"):
        tracker.phase("forwards").__enter__()
    with pytest.raises(ValueError, match="unknown memory region"):
        module_regions(model, {"backbon": model})
    assert set(PRIORITY) == set(CATEGORIES)
    assert len(set(PHASES)) == 8


def test_sparse_gradients_do_not_stop_the_tracker():
    model = nn.Embedding(10, 4, sparse=True)
    tokens = torch.tensor([1, 2])
    program = program_of(model, {"head": model}, lambda: tokens)
    with MemoryTracker(model, program.regions, inputs=tokens) as tracker:
        model(tokens).sum().backward()
    assert tracker.current_bytes["trainable_weights"] == 160
