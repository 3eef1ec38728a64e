"""Every live byte of PyTorch's tensors, by category, at every event of a step.

The tracker watches three things: a dispatch mode shows every tensor that an operation returns,
saved-tensor hooks show what autograd keeps for backward, and hooks on parameters and optimizer show
gradients and state. Bytes are counted once a storage, however many views it has, and leave the
count when the storage dies. Every event costs O(1). It works alike on real tensors, on wrapper
subclasses (their inner tensors count), and on fake tensors.

What a kernel allocates for itself never reaches a tensor; see ``harness.memory.allocator`` for it.
"""

import itertools
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    is_traceable_wrapper_subclass,
    is_traceable_wrapper_subclass_type,
)
from torch.utils._pytree import tree_leaves

from harness.memory.categories import CATEGORIES, PHASES, PRIORITY, REGIONS, SAVED
from harness.memory.events import Event
from harness.memory.regions import current_region, follow_modules


class _Storage:
    """One live storage: its size, the category of its role, and who holds it for backward."""

    __slots__ = ("category", "finalizer", "holders", "key", "nbytes", "pointer", "role")

    def __init__(self, key: int, nbytes: int, pointer: int, role: str) -> None:
        self.key = key
        self.nbytes = nbytes
        self.pointer = pointer
        self.role = role
        self.category = role
        self.holders = dict.fromkeys(REGIONS, 0)
        self.finalizer: weakref.finalize | None = None

    def charged_to(self) -> str:
        """Return the category by role and holders: a parameter stays one when it is saved."""
        saved = next((SAVED[region] for region, count in self.holders.items() if count), self.role)
        return max(self.role, saved, key=lambda name: PRIORITY[name])


class _Held:
    """What autograd keeps instead of a saved tensor; its death is the end of the saving."""

    __slots__ = ("release", "tensor")

    def __init__(self, tensor: torch.Tensor, release: Callable[[], None]) -> None:
        self.tensor = tensor
        self.release = release

    def __del__(self) -> None:
        self.release()


class MemoryTracker(TorchDispatchMode):
    """Count live bytes by category while the context is entered.

    On entry, weights, buffers, gradients and optimizer state that exist are counted as the start.
    A tensor saved for backward is charged to the region that is executing when it is saved, not to
    the one that made it: a backbone's hidden state that a side network reads is ``saved_side``.

    A module may define ``memory_categories() -> dict[str, str]``, from the names of its own tensors
    to categories, for what is neither a plain weight nor a plain buffer (quantised codes).

    Args:
        model: the whole model.
        regions: region -> root module of that region; see ``harness.memory.regions``.
        optimizer: whose state is ``optimizer_state``.
        inputs: the batch, a nest of mappings, sequences, dataclasses and tensors.
        device: only tensors on this type of device count.
        record: keep a log of events for :func:`harness.memory.events.replay`.

    Attributes:
        current_bytes: category -> live bytes.
        total_bytes: their sum.
        peak_bytes: highest total since entry; ``at_peak_bytes`` are the categories then.
        phase_peak_bytes: phase -> highest total in it.
        start_bytes: the total at entry.
        events: the log, empty unless ``record``.
    """

    def __init__(
        self,
        model: nn.Module,
        regions: Mapping[str, nn.Module],
        *,
        optimizer: Optimizer | None = None,
        inputs: Any = (),
        device: torch.device | str = "cpu",
        record: bool = False,
    ) -> None:
        super().__init__()
        self.current_bytes = dict.fromkeys(CATEGORIES, 0)
        self.total_bytes = 0
        self.peak_bytes = 0
        self.at_peak_bytes: dict[str, int] = {}
        self.phase_peak_bytes: dict[str, int] = {}
        self.start_bytes = 0
        self.events: list[Event] = []
        self._model = model
        self._regions = regions
        self._optimizer = optimizer
        self._inputs = inputs
        self._device_type = torch.device(device).type
        self._record = record
        self._phase: str | None = None
        self._storages: dict[int, _Storage] = {}
        self._serial = itertools.count()
        self._open = False
        self._exit = ExitStack()

    # --- life of the tracker -------------------------------------------------------------------

    def __enter__(self) -> "MemoryTracker":
        self._open = True
        for tensor, category in resident_tensors(self._model):
            self.label(tensor, category)
        self._label_all(self._inputs, "inputs")
        self._label_optimizer_state()
        self.start_bytes = self.peak_bytes = self.total_bytes
        self.at_peak_bytes = dict(self.current_bytes)
        self._install_hooks()
        self._exit.enter_context(saved_tensors_hooks(self._pack, self._unpack))
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._exit.close()
        self._open = False
        for storage in self._storages.values():
            if storage.finalizer is not None:
                storage.finalizer.detach()
        self._storages.clear()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the peaks in this block to the phase ``name``."""
        if name not in PHASES:
            raise ValueError(f"unknown phase {name!r}; the phases are {', '.join(PHASES)}")
        outer, self._phase = self._phase, name
        self._log("phase", label=name)
        self._mark_peak()
        try:
            yield
        finally:
            self._phase = outer

    def _install_hooks(self) -> None:
        handles: list[Any] = list(follow_modules(self._model, self._regions))
        for parameter in self._model.parameters():
            if parameter.requires_grad and parameter.is_leaf:
                handles.append(
                    parameter.register_post_accumulate_grad_hook(
                        lambda p: self._label_all(p.grad, "gradients")
                    )
                )
        if self._optimizer is not None:
            handles.append(
                self._optimizer.register_step_post_hook(lambda *_: self._label_optimizer_state())
            )
        for handle in handles:
            self._exit.callback(handle.remove)

    # --- what the hooks report -----------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if any(is_traceable_wrapper_subclass_type(kind) for kind in types):
            return (
                NotImplemented  # the subclass unwraps itself; its inner operations come back here
            )
        if func is torch.ops.prim.device.default:
            return args[0].fake_device  # asked for at every turn, and an operation of its own
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():
            # Without autograd keys a composite operation arrives whole; its parts must be seen.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        for leaf in (result,) if isinstance(result, torch.Tensor) else tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.label(leaf, "temporaries")
        return result

    def _pack(self, tensor: torch.Tensor) -> _Held:
        region = current_region()
        held = [self._storage(part, "temporaries") for part in self._counted(tensor)]
        for storage in held:
            self._hold(storage, region, 1)

        def release() -> None:
            for storage in held:
                self._hold(storage, region, -1)

        return _Held(tensor, release)

    @staticmethod
    def _unpack(held: _Held) -> torch.Tensor:
        return held.tensor

    def _label_all(self, nest: Any, category: str) -> None:
        for tensor in tensors_in(nest):
            self.label(tensor, category)

    def _label_optimizer_state(self) -> None:
        if self._optimizer is not None:
            self._label_all(list(self._optimizer.state.values()), "optimizer_state")

    # --- the books -----------------------------------------------------------------------------

    def label(self, tensor: torch.Tensor, category: str) -> None:
        """Count the tensor's storages, or move them to ``category`` where it has priority."""
        for part in self._counted(tensor):
            storage = self._storage(part, category)
            if PRIORITY[category] > PRIORITY[storage.role]:
                storage.role = category
                self._recharge(storage)

    def _counted(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        parts = plain_tensors(tensor)
        return [part for part in parts if _device_of(part).type == self._device_type]

    def _storage(self, tensor: torch.Tensor, role: str) -> _Storage:
        raw = tensor.untyped_storage()
        known = self._storages.get(raw._cdata)
        if known is not None:
            return known
        fake = isinstance(tensor, FakeTensor)
        storage = _Storage(next(self._serial), raw.nbytes(), 0 if fake else raw.data_ptr(), role)
        self._storages[raw._cdata] = storage
        storage.finalizer = weakref.finalize(raw, self._free, raw._cdata)
        storage.finalizer.atexit = False
        self.current_bytes[role] += storage.nbytes
        self.total_bytes += storage.nbytes
        self._log("seen", storage, role)
        self._mark_peak()
        return storage

    def _free(self, address: int) -> None:
        storage = self._storages.pop(address)
        self.current_bytes[storage.category] -= storage.nbytes
        self.total_bytes -= storage.nbytes
        self._log("free", storage)

    def _hold(self, storage: _Storage, region: str, change: int) -> None:
        storage.holders[region] += change
        if self._open:
            self._recharge(storage)

    def _recharge(self, storage: _Storage) -> None:
        category = storage.charged_to()
        if category == storage.category:
            return
        self.current_bytes[storage.category] -= storage.nbytes
        self.current_bytes[category] += storage.nbytes
        storage.category = category
        self._log("relabel", storage, category)

    def _mark_peak(self) -> None:
        if self._phase is not None:
            highest = self.phase_peak_bytes.get(self._phase, 0)
            self.phase_peak_bytes[self._phase] = max(highest, self.total_bytes)
        if self.total_bytes > self.peak_bytes:
            self.peak_bytes = self.total_bytes
            self.at_peak_bytes = dict(self.current_bytes)

    def _log(self, kind: Any, storage: _Storage | None = None, label: str = "") -> None:
        if not self._record:
            return
        if storage is None:
            self.events.append(Event(time.time_ns(), kind, label=label))
        else:
            self.events.append(
                Event(time.time_ns(), kind, storage.key, label, storage.nbytes, storage.pointer)
            )


def resident_tensors(model: nn.Module) -> Iterator[tuple[torch.Tensor, str]]:
    """Yield what the model holds between steps, with its category.

    These are parameters and their gradients, buffers, and tensors that a module keeps as plain
    attributes (cached masks, say); ``memory_categories()`` of a module names exceptions.
    """
    for module in model.modules():
        declared: Mapping[str, str] = getattr(module, "memory_categories", dict)()
        for name, parameter in module.named_parameters(recurse=False):
            usual = "trainable_weights" if parameter.requires_grad else "frozen_weights"
            yield parameter, declared.get(name, usual)
            if parameter.grad is not None:
                yield parameter.grad, "gradients"
        for name, buffer in module.named_buffers(recurse=False):
            yield buffer, declared.get(name, "buffers")
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                yield value, declared.get(name, "buffers")


def plain_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors that really own memory: the inner ones of a wrapper subclass.

    Sparse tensors have no plain storage and are left out.
    """
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return [part for name in names for part in plain_tensors(getattr(tensor, name))]
    return [tensor] if tensor.layout is torch.strided else []


def _device_of(tensor: torch.Tensor) -> torch.device:
    """Return the device of a tensor; a fake one's ``device`` would be an operation of its own."""
    return tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device


def storages_in(nest: Any) -> dict[int, int]:
    """Return the bytes of every storage in a nest, as :func:`tensors_in` has it, by address."""
    parts = (part for tensor in tensors_in(nest) for part in plain_tensors(tensor))
    return {(raw := part.untyped_storage())._cdata: raw.nbytes() for part in parts}


def tensors_in(nest: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in a nest of mappings, sequences and dataclasses."""
    if isinstance(nest, torch.Tensor):
        yield nest
    elif isinstance(nest, Mapping):
        for value in nest.values():
            yield from tensors_in(value)
    elif isinstance(nest, list | tuple):
        for value in nest:
            yield from tensors_in(value)
    elif is_dataclass(nest):
        for item in fields(nest):
            yield from tensors_in(getattr(nest, item.name))
