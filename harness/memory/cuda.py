"""CPU operations that keep what CUDA's keep, so that fake CPU tensors predict a step on CUDA."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_map

_IN_FP32: Final[dict[Any, tuple[str, ...]]] = {
    functional: (
        "binary_cross_entropy_with_logits",
        "cosine_similarity",
        "group_norm",
        "kl_div",
        "l1_loss",
        "layer_norm",
        "mse_loss",
        "nll_loss",
        "smooth_l1_loss",
        "softplus",
    ),
    torch: ("cdist", "exp", "log", "logsumexp", "pow", "reciprocal", "rsqrt"),
    Tensor: ("__pow__", "exp", "log", "logsumexp", "pow", "reciprocal", "rsqrt"),
}
"""What CUDA's autocast computes of fp32 copies, and a CPU's of bf16 as it is."""
_TO_FP32: Final[dict[Any, tuple[str, ...]]] = {
    functional: ("log_softmax", "softmax"),
    torch: ("cumsum", "log_softmax", "prod", "softmax", "sum"),
    Tensor: ("cumsum", "log_softmax", "prod", "softmax", "sum"),
}
"""What CUDA's autocast has fp32 outputs of, unless another type is asked for."""


@contextmanager
def cuda_sizes() -> Iterator[None]:
    """Make dropout save a mask of bytes, and autocast to bf16 leave out what CUDA's leaves out.

    Products of integers are there, whatever this CPU has. Functions are exchanged, as modes are not
    there when blocks run again in the backward pass. The lists are those of PyTorch's documentation
    of autocast, of the operations that models use.
    """
    with ExitStack() as stack:
        stack.enter_context(patch.object(functional, "dropout", dropout))
        stack.enter_context(patch.object(torch.cpu, "_is_vnni_supported", lambda: True))
        for changed, change in ((_IN_FP32, _of_fp32), (_TO_FP32, _as_fp32)):
            for place, names in changed.items():
                for name in names:
                    own = change(getattr(place, name))
                    stack.enter_context(patch.object(place, name, own))
        yield


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Return ``dropout`` as CUDA's kernel computes it: it saves a mask of one byte an element."""
    if not training or p == 0.0:
        return input
    output = torch.native_dropout(input, p, True)[0]
    return input.copy_(output) if inplace else output


def _of_fp32(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that, under autocast, computes of fp32 copies."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map(_widened, (args, kwargs))
        return function(*args, **kwargs)

    return run


def _as_fp32(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose output is, under autocast, fp32."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu") and _is_low(args[0] if args else kwargs["input"]):
            kwargs.setdefault("dtype", torch.float32)
        return function(*args, **kwargs)

    return run


def _is_low(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16


def _widened(value: Any) -> Any:
    return value.float() if _is_low(value) else value
