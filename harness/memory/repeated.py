"""A mode of fake tensors that remembers what an operation returned of arguments alike.

Blocks of a model are alike, so that most operations of a step repeat others in everything but the
tensors themselves. PyTorch's own mode remembers them, too, but describes every argument by some
twenty properties to look one up, which takes most of a prediction's time. A few are enough for
plain strided tensors; whatever is not plain goes PyTorch's way.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from harness.memory.tracker import tensors_in

_NAMESPACES: Final = ("aten", "prims")
"""Of operations whose results depend on their arguments alone."""
_BY_VALUE: Final = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
_PLAIN: Final = (
    int,
    float,
    bool,
    str,
    type(None),
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)
Maker: TypeAlias = Callable[[Sequence[Any]], Any]
"""Makes an operation's result from its positional arguments."""


class _UnlikeError(Exception):
    """An argument is neither a plain strided fake tensor nor a plain value."""


class RepeatingFakeMode(FakeTensorMode):
    """A ``FakeTensorMode`` that makes results like earlier ones without computing them again."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._makers: dict[Hashable, Maker | None] = {}

    def dispatch(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the result of an operation."""
        kwargs = kwargs or {}
        key = self._key(func, args, kwargs)
        make = self._makers.get(key)
        if make is not None:
            return make(args)
        result = super().dispatch(func, types, args, kwargs)
        if key is not None and key not in self._makers:
            told = not any(tag in func.tags for tag in _BY_VALUE)
            told = told and self._key(func, args, kwargs) == key  # no argument was resized
            self._makers[key] = self._maker(args, kwargs, result) if told else None
        return result

    def _key(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Hashable:
        """Return all that the result's geometry depends on; None where that is more than this."""
        if func.namespace not in _NAMESPACES or torch.is_inference_mode_enabled():
            return None
        try:
            parts = tuple(map(self._alike, args))
            named = tuple((name, self._alike(value)) for name, value in kwargs.items())
        except _UnlikeError:
            return None
        return func, torch.get_default_dtype(), parts, named

    def _alike(self, value: Any) -> Hashable:
        """Return the same for arguments that are the same to an operation.

        Raises:
            _UnlikeError: the argument is of a kind that is not compared.
        """
        if isinstance(value, FakeTensor):
            own = value.fake_mode is self and value.constant is None
            if not own or value.layout is not torch.strided or value.dtype.is_complex:
                raise _UnlikeError
            geometry = value.shape, value.stride(), value.storage_offset()
            return geometry, value.dtype, value.fake_device
        if isinstance(value, list | tuple):
            return tuple(map(self._alike, value))
        if not isinstance(value, _PLAIN):
            raise _UnlikeError
        return type(value), value  # 1 and 1.0 are equal, and give results of other types

    def _maker(self, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Maker | None:
        """Return what makes the result again; None where it is of a kind that is not made here."""
        if not isinstance(result, list | tuple):
            return self._maker_of_part(args, kwargs, result)
        makers = [self._maker_of_part(args, kwargs, part) for part in result]
        known = [make for make in makers if make is not None]
        owned = {_storage(tensor) for tensor in tensors_in([args, kwargs])}
        new = [s for s in map(_storage, tensors_in(result)) if s not in owned]
        if len(known) < len(makers) or len(set(new)) < len(new):  # a storage of several results
            return None
        kind = tuple if isinstance(result, tuple) else list
        return lambda own: kind([make(own) for make in known])

    def _maker_of_part(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], part: Any
    ) -> Maker | None:
        """Return what makes nothing, an argument, a view of one, or a new tensor like ``part``."""
        if part is None:
            return lambda _: None
        if not isinstance(part, FakeTensor):
            return None
        places = [place for place, value in enumerate(args) if value is part]
        if places:
            return lambda own: own[places[0]]
        owners = [t for t in tensors_in([args, kwargs]) if _storage(t) == _storage(part)]
        owner = next((n for n, value in enumerate(args) if owners and value is owners[0]), None)
        if len(owners) > 1 or (owners and owner is None):  # a view, but of no single argument
            return None
        make = self._tensor_maker(part, owner)
        return make if _same(make(args), part) else None

    def _tensor_maker(self, part: FakeTensor, owner: int | None) -> Maker:
        """Return what makes a view like ``part`` of the argument at ``owner``; None for no view."""
        size, stride, offset = part.shape, part.stride(), part.storage_offset()
        dtype, device = part.dtype, part.fake_device

        def make(own: Sequence[Any]) -> FakeTensor:
            if owner is None:
                plain = torch.empty_strided(size, stride, dtype=dtype, device="meta")
            else:
                plain = torch.empty(0, dtype=dtype, device="meta")
                plain.set_(own[owner].untyped_storage(), offset, size, stride)
            return FakeTensor(self, plain, device)

        return make


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _same(made: Any, part: FakeTensor) -> bool:
    """Return whether a tensor that was made here is what PyTorch's mode gave."""
    return (
        torch._C._dispatch_key_set(made) == torch._C._dispatch_key_set(part)
        and made.requires_grad == part.requires_grad
        and made.storage_offset() == part.storage_offset()
        and made.untyped_storage().nbytes() == part.untyped_storage().nbytes()
    )
