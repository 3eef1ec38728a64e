"""The allocator's blocks, and their merge with what the tracker saw."""

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_models import bias_only, full, ladder

from harness.memory.allocator import record_allocations
from harness.memory.events import Allocation, Event, replay, without
from harness.memory.measure import measure
from harness.memory.step import train_step

CPU = torch.device("cpu")


def highest(allocations: list[Allocation]) -> int:
    changes = [(block.start_ns, block.nbytes) for block in allocations]
    changes += [(block.end_ns, -block.nbytes) for block in allocations if block.end_ns is not None]
    total = peak = 0
    for _, change in sorted(changes, key=lambda item: item[0]):
        total += change
        peak = max(peak, total)
    return peak


def test_every_block_is_recorded_with_its_end():
    with record_allocations(CPU) as log:
        kept = torch.empty(250)
        dropped = torch.empty(500)
        del dropped
    first, second = log.allocations
    assert (first.nbytes, second.nbytes) == (1000, 2000)
    assert first.pointer == kept.data_ptr()
    assert first.end_ns is None
    assert second.end_ns is not None
    assert second.start_ns < second.end_ns


@pytest.mark.parametrize("method", [full, bias_only, ladder])
def test_the_tracker_does_not_change_what_it_measures(method):
    """The same step without tracker, by the allocator alone, has the same peak."""
    program = method()
    batch = program.make_batch()
    optimizer = program.make_optimizer(program.model)
    quiet = lambda name: torch.enable_grad()
    train_step(program, optimizer, batch, quiet)
    with record_allocations(CPU) as log:
        train_step(program, optimizer, batch, quiet)
    state = [value for values in optimizer.state.values() for value in values.values()]
    resident = (*program.model.parameters(), *batch.values(), *state)
    expected = highest(log.allocations) + sum(tensor.nbytes for tensor in resident)
    assert measure(method(), prediction=False).train_peak_bytes == expected


def test_blocks_without_a_tensor_are_kernel_workspace():
    events = [
        Event(0, "seen", 0, "frozen_weights", 100, 7),
        Event(1, "phase", label="forward"),
        Event(15, "seen", 1, "temporaries", 40, 9),
        Event(16, "relabel", 1, "saved_side"),
        Event(20, "phase", label="backward"),
        Event(30, "free", 1),
    ]
    blocks = [Allocation(8, 64, 11, 14), Allocation(9, 40, 12, 29)]
    result = replay(events, blocks)
    assert result.peak_bytes == 204
    peak = {name: n for name, n in result.at_peak_bytes.items() if n}
    assert peak == {"frozen_weights": 100, "temporaries": 40, "kernel_workspace": 64}
    assert result.phase_peak_bytes == {"forward": 204, "backward": 140}
    assert result.total_bytes == 100
    assert result.timeline[-2].bytes == {"frozen_weights": 100, "saved_side": 40}


def test_an_address_used_again_belongs_to_its_latest_block():
    events = [
        Event(0, "phase", label="forward"),
        Event(12, "seen", 0, "inputs", 8, 5),
        Event(19, "free", 0),
        Event(32, "seen", 1, "gradients", 16, 5),
    ]
    blocks = [Allocation(5, 8, 10, 18), Allocation(5, 32, 20, 25), Allocation(5, 16, 30, None)]
    result = replay(events, blocks)
    charged = [point.bytes for point in result.timeline if point.bytes]
    assert charged == [{"inputs": 8}, {"kernel_workspace": 32}, {"gradients": 16}]


@given(
    sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=60),
    points=st.integers(4, 50),
)
def test_a_thinned_timeline_keeps_the_peak_and_the_ends(sizes, points):
    events = [Event(0, "phase", label="forward")]
    for index, size in enumerate(sizes):
        events.append(Event(2 * index + 1, "seen", index, "temporaries", size))
        if index % 3:
            events.append(Event(2 * index + 2, "free", index - 1))
    result = replay(events, points=points)
    totals = [sum(point.bytes.values()) for point in result.timeline]
    assert max(totals) == result.peak_bytes
    assert totals[0] == 0
    assert totals[-1] == result.total_bytes
    assert [p.event for p in result.timeline] == sorted({p.event for p in result.timeline})


def test_a_timeline_is_json():
    report = measure(full(), prediction=False)
    points = json.loads(json.dumps(report.timeline_json()))
    assert {point["phase"] for point in points} == {"forward", "backward", "optimizer"}
    assert len(points) <= 500


def test_words_and_reports_import_no_torch():
    code = (
        "import sys, harness.memory.categories, harness.memory.events, harness.memory.report;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(nbytes=st.integers(1, 1000), sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=9))
def test_a_replay_without_bytes_is_that_of_events_without_them(nbytes, sizes):
    kept = [Event(2, "seen", 99, "optimizer_state", 7)]
    for index, size in enumerate(sizes):
        kept += [Event(3 + index, "phase", label=("forward", "backward")[index % 2])]
        kept += [Event(3 + index, "seen", index, "temporaries", size)]
        kept += [Event(3 + index, "free", index)] if index % 3 else []
    extra = Event(1, "seen", 100, "optimizer_state", nbytes)
    assert without(replay([extra, *kept]), "optimizer_state", nbytes) == replay(kept)
