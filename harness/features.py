"""The store of frozen-backbone features.

A side method's backbone gives the same states in every epoch, so they are computed once and kept
in memory-mapped files. Streams with a modality of their own are stored by unit (4,000 images,
not 38,575 questions); streams made of other streams are stored by row. A split that a run reads
once is stored for the runs after it, where there is room. Entries are named by a hash of
everything that they depend on.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from harness.backbones.base import StreamSpec, StreamState, Tap
from harness.cleaning import FILLING, feature_lock
from harness.data import Examples, move, sequential, used_units
from harness.record import content_hash, write_atomic
from methods.base import SideMethod, States

CHUNK = 128
READ_ONCE = ("test",)
Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Entry:
    """Stored states of one stream, one row a unit.

    Attributes:
        tensors: by part (``output``, ``tap0`` ...), [units, ...], memory-mapped.
        layout: what is needed to build a state again.
    """

    tensors: Mapping[str, Tensor]
    layout: Mapping[str, Any]

    def state(
        self,
        index: Tensor,
        spec: StreamSpec,
        method: SideMethod,
        device: torch.device,
        *,
        trim: bool,
    ) -> StreamState:
        """Return the state of the units at ``index`` ([B] long) on ``device``.

        Args:
            index: positions.
            spec: the stream.
            method: whose backbone it is.
            device: where the state goes.
            trim: whether tokens that are padding in every row are left out.
        """
        tensors = self.tensors
        if trim and "mask" in tensors:
            tokens = tensors["mask"].shape[1]
            width = int(tensors["mask"][index].sum(1).max())
            tensors = {
                name: tensor[:, :width] if tensor.shape[1] == tokens else tensor
                for name, tensor in tensors.items()
            }
        parts = {name: move(tensor[index], device) for name, tensor in tensors.items()}
        mask = parts.get("mask")
        taps = tuple(
            Tap(parts[f"tap{i}"], t["layout"], mask, _pair(t["grid"]), t["stride"])
            for i, t in enumerate(self.layout["taps"])
        )
        output = parts["output"] if "output" in parts else taps[-1].value
        salient = method.backbone.select_salient(spec.name, output, mask)
        return StreamState(output=output, mask=mask, salient=salient, taps=taps)


class FeatureStore:
    """Frozen states of every split of one run.

    Args:
        folder: where entries live; shared by the runs of one output folder.
        max_bytes: largest total size of the entries in ``folder``.
        method: the side method whose frozen backbone is stored.
        examples: the data.
        autocast: the context of the backbone's computation.
        key: everything else that features depend on (weights, data, threads, precision).

    Attributes:
        bytes: the most bytes of entries that this run had open at once.
        seconds: time spent on filling; neither counts splits that are read once.
        reason: why the store is not used, where it is not.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        method: SideMethod,
        examples: Examples,
        autocast: Autocast,
        key: Mapping[str, Any],
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.method = method
        self.examples = examples
        self.autocast = autocast
        self.key = dict(key)
        self.bytes = 0
        self.seconds = 0.0
        self.reason: str | None = None
        self._not_stored: tuple[str, ...] = READ_ONCE
        self._entries: dict[tuple[str, str], Entry] = {}
        self._backbone_state = self._state_now()
        splits = examples.data.splits
        self._units = {m: used_units(splits, m) for m in examples.data.units}
        self._unit_positions = {
            m: _inverse(used, len(examples.data.units[m])) for m, used in self._units.items()
        }

    def states(self, split: str, rows: np.ndarray) -> States:
        """Return the frozen states of ``rows``, filling the store where it is empty."""
        states: States = {}
        for spec in self.method.specs:
            if split in self._not_stored and not spec.by_unit:
                states[spec.name] = self._encode(spec, split, rows)
            else:
                states[spec.name] = self._stored(spec, split, rows)
        return states

    def _stored(self, spec: StreamSpec, split: str, rows: np.ndarray) -> StreamState:
        index = torch.from_numpy(self.positions(spec, split, rows))
        # A later stream was stored with all of its sources' tokens, padding in between included.
        alone = not any(spec.name in other.sources for other in self.method.specs)
        trim = alone and spec.by_unit
        return self.entry(spec, split).state(
            index, spec, self.method, self.examples.device, trim=trim
        )

    def fits(self) -> bool:
        """Return whether one full set of entries stays within ``max_bytes``; sets ``reason``.

        Splits that are read once need not fit: without room they are not stored. Nothing is stored
        for the look.
        """
        needed = read_once = 0
        states: States = {}
        for spec in self.method.specs:
            states[spec.name] = self._first(spec, states)
            sample, _ = _take_apart(states[spec.name])
            size = sum(tensor[0].nbytes for tensor in sample.values())
            scopes = ["units"] if spec.by_unit else list(self.examples.data.splits)
            counts = {scope: self._count(spec, scope) for scope in scopes}
            needed += size * sum(n for scope, n in counts.items() if scope not in READ_ONCE)
            read_once += size * sum(n for scope, n in counts.items() if scope in READ_ONCE)
        if needed > self.max_bytes:
            self.reason = f"features need {needed} bytes, features.max_bytes is {self.max_bytes}"
        elif needed + read_once <= self.max_bytes:
            self._not_stored = ()
        return self.reason is None

    def _first(self, spec: StreamSpec, states: States) -> StreamState:
        """Run the frozen stream on the first row, its text as long as any, behind its sources."""
        units = None
        if spec.modality:
            units = self.examples.split("train").units[spec.modality][:1].reshape(-1)
        sources = {name: states[name] for name in spec.sources}
        return self._run(spec, units, sources, longest=True)

    def _count(self, spec: StreamSpec, split: str) -> int:
        if spec.by_unit:
            return len(self._units[str(spec.modality)])
        return len(self.examples.split(split))

    def positions(self, spec: StreamSpec, split: str, rows: np.ndarray) -> np.ndarray:
        """Return where the stream's states of ``rows`` stand in its entry."""
        if not spec.by_unit:
            return rows
        modality = str(spec.modality)
        units = self.examples.split(split).units[modality][rows]
        return self._unit_positions[modality][units.reshape(-1)]

    def _state_now(self) -> str:
        return self.method.backbone.low_bit.state_hash() + self.method.backbone_state_hash()

    def refresh(self) -> None:
        """Take notice that the method may have changed its frozen backbone: drop what is stale."""
        state = self._state_now()
        if state != self._backbone_state:
            self._backbone_state = state
            self._entries.clear()

    def entry(self, spec: StreamSpec, split: str) -> Entry:
        """Return the stored states of one stream, filling the store where it is empty."""
        scope = "units" if spec.by_unit else split
        if (spec.name, scope) not in self._entries:
            path = self.folder / self._name(spec, scope)
            self.folder.mkdir(parents=True, exist_ok=True)
            with _lock(path):  # other runs want it filled, too
                if not (path / "layout.json").is_file():
                    start = time.perf_counter()
                    self._fill(spec, split, path)
                    if scope not in READ_ONCE:
                        self.seconds += time.perf_counter() - start
                os.utime(path)  # those that were not opened for the longest time give way first
                self._entries[spec.name, scope] = _open(path)
            own = [e for (_, scope), e in self._entries.items() if scope not in READ_ONCE]
            held = sum(tensor.nbytes for entry in own for tensor in entry.tensors.values())
            self.bytes = max(self.bytes, held)
        return self._entries[spec.name, scope]

    def _name(self, spec: StreamSpec, scope: str) -> str:
        """Return the folder of an entry: a hash of everything that it depends on."""
        key = {
            **self.key,
            "backbone_state": self._backbone_state,
            "stream": spec.name,
            "scope": scope,
            "taps": self.method.reads_taps,
        }
        return content_hash(key)[:24]

    def _fill(self, spec: StreamSpec, split: str, path: Path) -> None:
        """Compute one entry into a folder beside it, then give it its name; its lock is held."""
        count = self._count(spec, split)
        work = path.with_name(f"{FILLING}{path.name}")
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        work.mkdir()
        tensors: dict[str, Tensor] = {}
        layout: dict[str, Any] = {}
        chunks = list(sequential(count, CHUNK))
        self._read_ahead(spec, split, chunks)
        try:
            for rows in chunks:
                parts, layout = _take_apart(self._encode(spec, split, rows))
                if not tensors:
                    sample, _ = _take_apart(self._encode(spec, split, rows[:1], longest=True))
                    self._make_room(sum(p[0].nbytes for p in sample.values()) * count)
                    tensors = {n: _create(work / n, count, p) for n, p in sample.items()}
                for name, part in parts.items():
                    _write(tensors[name][rows[0] : rows[-1] + 1], part)
            layout["tensors"] = {
                name: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")}
                for name, t in tensors.items()
            }
            write_atomic(work / "layout.json", json.dumps(layout).encode())
            shutil.rmtree(path, ignore_errors=True)
            work.rename(path)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def _read_ahead(self, spec: StreamSpec, split: str, chunks: Sequence[np.ndarray]) -> None:
        if spec.modality is None:
            return
        own = self._units if spec.by_unit else self.examples.split(split).units
        parts = [own[spec.modality][rows].reshape(-1) for rows in chunks]
        self.examples.read_units_ahead(spec.modality, parts)

    def _make_room(self, needed: int) -> None:
        """Delete the least recently opened entries while the new one has no room beside them.

        One that another process is about to open stays.
        """
        entries = sorted(_stored_in(self.folder))
        specs = {spec.name: spec for spec in self.method.specs}
        in_use = {self._name(specs[stream], scope) for stream, scope in self._entries}
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            free = shutil.disk_usage(self.folder).free
            if total + needed <= self.max_bytes and needed <= free:
                break
            if path.name not in in_use and _removed(path):
                total -= size

    def _encode(
        self, spec: StreamSpec, split: str, rows: np.ndarray, *, longest: bool = False
    ) -> StreamState:
        """Run the frozen stream: on its ``rows`` of units, or on rows of a split."""
        modality = spec.modality
        if modality and spec.by_unit:
            return self._run(spec, self._units[modality][rows], {}, longest=longest)
        sources = {
            name: self._stored(self.method.backbone.spec(name), split, rows)
            for name in spec.sources
        }
        units = self.examples.split(split).units[modality][rows] if modality else None
        return self._run(spec, units, sources, longest=longest)

    def _run(
        self, spec: StreamSpec, units: np.ndarray | None, sources: States, *, longest: bool
    ) -> StreamState:
        """Run the frozen stream on units, if it reads any, behind its sources' states."""
        inputs: dict[str, Tensor] = {}
        if units is not None:
            inputs = self.examples.unit_inputs(str(spec.modality), units, longest=longest)
        with torch.no_grad(), self.autocast():
            return self.method.encode(spec.name, inputs, sources)


def _lock(entry: Path) -> FileLock:
    return FileLock(feature_lock(entry.parent, entry.name))


def _stored_in(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield when each entry was opened last, its bytes and its path; others may remove some."""
    for path in folder.iterdir():
        if not path.name.startswith("."):
            with suppress(FileNotFoundError):
                yield path.stat().st_mtime, sum(f.stat().st_size for f in path.iterdir()), path


def _removed(entry: Path) -> bool:
    """Remove an entry unless somebody holds its lock; return whether it is gone."""
    try:
        with _lock(entry).acquire(timeout=0):
            shutil.rmtree(entry, ignore_errors=True)
    except Timeout:
        return False
    return True


def _inverse(units: np.ndarray, total: int) -> np.ndarray:
    """Return the inverse of ``units``: from unit to its stored position, -1 where unused."""
    positions = np.full(total, -1, dtype=np.int64)
    positions[units] = np.arange(len(units))
    return positions


def _pair(grid: Sequence[int] | None) -> tuple[int, int] | None:
    return (grid[0], grid[1]) if grid else None


def _take_apart(state: StreamState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    parts = {} if state.taps and state.taps[-1].value is state.output else {"output": state.output}
    if state.mask is not None:
        parts["mask"] = state.mask
    for i, tap in enumerate(state.taps):
        parts[f"tap{i}"] = tap.value
    taps = [{"layout": t.layout, "grid": t.grid, "stride": t.stride} for t in state.taps]
    return parts, {"taps": taps}


def _write(rows: Tensor, part: Tensor) -> None:
    """Copy a part into stored rows, which may be padded to more tokens: with zeros."""
    if rows.shape[1:] == part.shape[1:]:
        rows.copy_(part)
        return
    rows.zero_()
    rows[:, : part.shape[1]].copy_(part)


def _create(path: Path, count: int, sample: Tensor) -> Tensor:
    """Return a file of ``count`` rows like those of ``sample``, mapped to memory.

    Raises:
        OSError: the disk is full.
    """
    shape = (count, *sample.shape[1:])
    size = int(np.prod(shape))
    with path.open("wb") as file:
        # A mapped page without a block on the disk would kill the process where the disk is full.
        os.posix_fallocate(file.fileno(), 0, size * sample.element_size())
    return torch.from_file(str(path), shared=True, size=size, dtype=sample.dtype).view(shape)


def _open(path: Path) -> Entry:
    layout = json.loads((path / "layout.json").read_text())
    tensors = {
        name: torch.from_file(
            str(path / name),
            shared=True,
            size=int(np.prod(info["shape"])),
            dtype=getattr(torch, info["dtype"]),
        ).view(info["shape"])
        for name, info in layout["tensors"].items()
    }
    return Entry(tensors, layout)
