"""Which region of a model (backbone, side, head) is executing now.

One stack for the process: module hooks push and pop it while a tracker is attached, and code that
runs outside any module's ``forward`` names its region with :func:`executing`. It is a plain list
and not a context variable, because autograd may recompute a checkpointed forward in its own thread
while the calling thread waits.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from harness.memory.categories import REGIONS

DEFAULT_REGION = "head"
"""Of code outside every tagged module: in a training step that is the task's loss."""

_stack: list[str] = []


def current_region() -> str:
    """Return the region that is executing, ``DEFAULT_REGION`` outside every tagged module."""
    return _stack[-1] if _stack else DEFAULT_REGION


@contextmanager
def executing(region: str) -> Iterator[None]:
    """Charge what autograd saves in this block to ``region``; modules inside may override it.

    For code that calls a backbone through other methods than ``forward``.

    Args:
        region: ``"backbone"``, ``"side"`` or ``"head"``.
    """
    _stack.append(_known(region))
    try:
        yield
    finally:
        _stack.pop()


def module_regions(
    model: nn.Module, regions: Mapping[str, nn.Module]
) -> dict[nn.Module, str | None]:
    """Give every module the region of its nearest tagged ancestor.

    A module is tagged by being a value of ``regions``, or by an attribute ``memory_region`` (an
    adapter inside a backbone's block says ``memory_region = "side"``), which wins. A module that
    several regions share belongs to the first of ``backbone``, ``side``, ``head`` that holds it.

    Args:
        model: the whole model.
        regions: region -> the root module of that region.

    Returns:
        Every reachable module -> its region, or None where no ancestor is tagged.
    """
    tags = {id(root): _known(region) for region, root in regions.items()}
    owner: dict[nn.Module, str | None] = {}

    def visit(module: nn.Module, inherited: str | None) -> None:
        if module in owner:
            return
        override = getattr(module, "memory_region", None)
        region = tags.get(id(module), inherited) if override is None else _known(override)
        owner[module] = region
        for child in module.children():
            visit(child, region)

    for region in REGIONS:
        if region in regions:
            visit(regions[region], region)
    visit(model, None)
    return owner


def follow_modules(model: nn.Module, regions: Mapping[str, nn.Module]) -> list[RemovableHandle]:
    """Keep the stack in step with the modules that execute, until the handles are removed."""
    handles: list[RemovableHandle] = []
    for module, region in module_regions(model, regions).items():
        if region is not None:
            handles.append(module.register_forward_pre_hook(_push(region)))
            handles.append(module.register_forward_hook(_pop, always_call=True))
    return handles


def _push(region: str) -> Any:
    return lambda *_: _stack.append(region)


def _pop(*_: Any) -> None:
    _stack.pop()


def _known(region: str) -> str:
    if region not in REGIONS:
        raise ValueError(f"unknown memory region {region!r}; the regions are {', '.join(REGIONS)}")
    return region
