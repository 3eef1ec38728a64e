"""What an exception tells about how a computation ended."""

from typing import Final

import torch

_NO_MEMORY: Final = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
)
"""Parts of messages of PyTorch's CPU allocator, of CUDA, and of cuBLAS and cuDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that host or device had no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in _NO_MEMORY)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
