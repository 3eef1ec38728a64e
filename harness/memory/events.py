"""A step as a list of memory events, and its replay into peaks and a timeline.

The tracker sees tensors and knows their category; the allocator sees blocks and knows every byte.
A replay walks both in time order, so that each live block at the allocator's peak carries the
category that its tensor had at that moment. Blocks without a tensor are kernel workspace.
This module imports no torch.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from harness.memory.categories import CATEGORIES

TIMELINE_POINTS = 400


class Event(NamedTuple):
    """What the tracker saw.

    Attributes:
        time_ns: unix time in nanoseconds, the clock of the profiler's events.
        kind: ``seen`` (a storage appears), ``relabel``, ``free``, or ``phase``.
        key: serial number of the storage, -1 for ``phase``.
        label: the storage's category from now on, or the phase.
        nbytes: size of the storage in bytes.
        pointer: address of the storage, 0 where it has none.
    """

    time_ns: int
    kind: Literal["seen", "relabel", "free", "phase"]
    key: int = -1
    label: str = ""
    nbytes: int = 0
    pointer: int = 0


class Allocation(NamedTuple):
    """A block that an allocator handed out; ``end_ns`` is None while it lives."""

    pointer: int
    nbytes: int
    start_ns: int
    end_ns: int | None


@dataclass(frozen=True)
class TimelinePoint:
    """Live bytes by category after one event; categories without bytes are left out."""

    event: int
    phase: str
    bytes: dict[str, int]


@dataclass
class Replay:
    """The result of :func:`replay`; all sizes in bytes."""

    total_bytes: int = 0
    peak_bytes: int = -1
    at_peak_bytes: dict[str, int] = field(default_factory=dict)
    phase_peak_bytes: dict[str, int] = field(default_factory=dict)
    timeline: list[TimelinePoint] = field(default_factory=list)


def replay(
    events: Sequence[Event], allocations: Sequence[Allocation] = (), points: int = TIMELINE_POINTS
) -> Replay:
    """Walk tracker events and allocator blocks in time order.

    The peak is the highest total within a phase. A storage that existed before the allocator was
    watched has no block and counts by the tracker's events alone.

    Args:
        events: the tracker's log.
        allocations: the allocator's blocks of the same time; empty for a traced result.
        points: at most about so many points are kept in the timeline.

    Returns:
        Peak, categories at the peak, peak of each phase, and the thinned timeline.
    """
    result = Replay()
    live = dict.fromkeys(CATEGORIES, 0)
    states: list[tuple[str, int, dict[str, int]]] = []
    phase = ""
    for change in _merged(events, allocations):
        if change.phase:
            phase = change.phase
        if change.taken:
            live[change.taken] -= change.nbytes
            result.total_bytes -= change.nbytes
        if change.given:
            live[change.given] += change.nbytes
            result.total_bytes += change.nbytes
        if not phase:
            continue
        total = result.total_bytes
        result.phase_peak_bytes[phase] = max(total, result.phase_peak_bytes.get(phase, 0))
        if total > result.peak_bytes:
            result.peak_bytes, result.at_peak_bytes = total, dict(live)
        states.append((phase, total, {name: n for name, n in live.items() if n}))
    result.timeline = list(_thinned(states, points))
    return result


def without(replayed: Replay, category: str, nbytes: int) -> Replay:
    """Return a replay as if ``nbytes`` of a category had not been there from beginning to end.

    Args:
        replayed: in which they were there all the time.
        category: of the bytes.
        nbytes: how many.
    """

    def less(live: dict[str, int]) -> dict[str, int]:
        return live | {category: live.get(category, 0) - nbytes}

    return Replay(
        total_bytes=replayed.total_bytes - nbytes,
        peak_bytes=replayed.peak_bytes - nbytes,
        at_peak_bytes=less(replayed.at_peak_bytes),
        phase_peak_bytes={n: peak - nbytes for n, peak in replayed.phase_peak_bytes.items()},
        timeline=[
            replace(point, bytes={name: n for name, n in less(point.bytes).items() if n})
            for point in replayed.timeline
        ],
    )


class _Change(NamedTuple):
    """``nbytes`` leave category ``taken`` and enter category ``given``; a phase may begin."""

    time_ns: int
    nbytes: int = 0
    taken: str = ""
    given: str = ""
    phase: str = ""


def _merged(events: Sequence[Event], allocations: Sequence[Allocation]) -> list[_Change]:
    block_of = _matched(events, allocations)
    label = _first_labels(events, block_of)
    storages: dict[int, tuple[int, str]] = {}
    moments: list[tuple[int, Event | None, int]] = [(e.time_ns, e, -1) for e in events]
    for index, block in enumerate(allocations):
        moments.append((block.start_ns, None, index))
        if block.end_ns is not None:
            moments.append((block.end_ns, None, index))
    moments.sort(key=lambda moment: moment[0])

    changes: list[_Change] = []
    open_blocks: set[int] = set()
    for time_ns, event, index in moments:
        if event is None:
            name, nbytes = label.get(index, "kernel_workspace"), allocations[index].nbytes
            taken, given = (name, "") if index in open_blocks else ("", name)
            open_blocks ^= {index}
            changes.append(_Change(time_ns, nbytes, taken, given))
        elif event.kind == "phase":
            changes.append(_Change(time_ns, phase=event.label))
        elif event.key in block_of:
            index = block_of[event.key]
            if event.kind == "relabel" and index in open_blocks:
                changes.append(
                    _Change(time_ns, allocations[index].nbytes, label[index], event.label)
                )
            if event.kind == "relabel":
                label[index] = event.label
        else:
            nbytes, name = storages.pop(event.key, (event.nbytes, ""))
            given = "" if event.kind == "free" else event.label
            changes.append(_Change(time_ns, nbytes, name, given))
            if given:
                storages[event.key] = (nbytes, given)
    return changes


def _matched(events: Sequence[Event], allocations: Sequence[Allocation]) -> dict[int, int]:
    """Return storage key -> index of the block that holds it.

    A storage is seen when the operation that made it has returned, so its block is the last one
    that began at its address before that.
    """
    starts: dict[int, list[tuple[int, int]]] = {}
    for index, block in enumerate(allocations):
        starts.setdefault(block.pointer, []).append((block.start_ns, index))
    for at_address in starts.values():
        at_address.sort()
    block_of: dict[int, int] = {}
    for event in events:
        if event.kind != "seen" or event.pointer not in starts:
            continue
        at_address = starts[event.pointer]
        position = bisect_right(at_address, (event.time_ns, len(allocations))) - 1
        if position < 0:
            continue
        index = at_address[position][1]
        end_ns = allocations[index].end_ns
        if end_ns is None or end_ns > event.time_ns:
            block_of[event.key] = index
    return block_of


def _first_labels(events: Iterable[Event], block_of: dict[int, int]) -> dict[int, str]:
    """Return block index -> the category under which its storage first appears."""
    labels: dict[int, str] = {}
    for event in events:
        if event.kind == "seen" and event.key in block_of:
            labels.setdefault(block_of[event.key], event.label)
    return labels


def _thinned(
    states: Sequence[tuple[str, int, dict[str, int]]], points: int
) -> Iterator[TimelinePoint]:
    """Keep the first and last state, every change of phase, and each stretch's lowest and highest.

    The peak of the timeline is therefore the peak of the step.
    """
    if not states:
        return
    kept = {0, len(states) - 1}
    kept.update(i for i in range(1, len(states)) if states[i][0] != states[i - 1][0])
    stretch = max(1, -(-2 * len(states) // points))
    for start in range(0, len(states), stretch):
        indices = range(start, min(start + stretch, len(states)))
        kept.add(max(indices, key=lambda i: states[i][1]))
        kept.add(min(indices, key=lambda i: states[i][1]))
    for index in sorted(kept):
        yield TimelinePoint(index, states[index][0], states[index][2])
