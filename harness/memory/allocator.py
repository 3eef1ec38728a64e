"""What the allocators say: every block on CPU, and the peaks of each phase on CUDA.

Blocks come from the memory events of ``torch.profiler``, which carry address, size and unix time
in nanoseconds. The tracker stamps its events with ``time.time_ns``, the same clock; the two are
matched by address, and within an address by order. The clocks need only agree to some
microseconds: between a block's allocation and the moment its tensor is seen lies the return from
C++ into the tracker, and between two uses of an address lies the death of a Python object.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from harness.memory.events import Allocation

# The profiler's own start and stop messages would go to stderr beside the command's.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


class AllocationLog:
    """The blocks that were handed out while it was recorded; filled when the recording ends."""

    def __init__(self) -> None:
        self.allocations: list[Allocation] = []


@contextmanager
def record_allocations(device: torch.device) -> Iterator[AllocationLog]:
    """Record every block that the allocator of ``device`` hands out in this block of code."""
    log = AllocationLog()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield log
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    log.allocations = _paired(_memory_events(profiler, device))


class CudaPeaks:
    """Peaks of the CUDA caching allocator, read phase by phase.

    Attributes:
        phase_peak_bytes: phase -> ``requested``, ``allocated`` (requested, rounded to blocks) and
            ``reserved`` (with the cache) peaks; empty on CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.phase_peak_bytes: dict[str, dict[str, int]] = {}
        self._device = device

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Read the peaks of this block; nothing on a device other than CUDA."""
        if self._device.type != "cuda":
            yield
            return
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        try:
            yield
        finally:
            torch.cuda.synchronize(self._device)
            stats = torch.cuda.memory_stats(self._device)
            earlier = self.phase_peak_bytes.get(name, {})
            self.phase_peak_bytes[name] = {
                kind: max(stats[f"{kind}_bytes.all.peak"], earlier.get(kind, 0))
                for kind in ("requested", "allocated", "reserved")
            }


def _memory_events(profiler: profile, device: torch.device) -> list[tuple[int, int, int]]:
    """Return (unix ns, address, signed bytes) of every memory event on the device, in order."""
    results: Any = profiler.profiler.kineto_results  # type: ignore[union-attr]
    index = device.index or 0
    found: list[tuple[int, int, int]] = []
    waiting = list(results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag == torch._C._profiler._EventType.Allocation:
            block = event.extra_fields
            if block.device.type == device.type and (block.device.index or 0) in (-1, index):
                found.append((event.start_time_ns, block.ptr, block.alloc_size))
    return sorted(found, key=lambda item: item[0])


def _paired(events: list[tuple[int, int, int]]) -> list[Allocation]:
    """Pair allocations with the frees of the same address; a free without one is ignored."""
    blocks: list[Allocation] = []
    live: dict[int, int] = {}
    for time_ns, pointer, nbytes in events:
        if nbytes > 0:
            live[pointer] = len(blocks)
            blocks.append(Allocation(pointer, nbytes, time_ns, None))
        elif pointer in live:
            index = live.pop(pointer)
            blocks[index] = blocks[index]._replace(end_ns=time_ns)
    return blocks
