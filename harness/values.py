"""Tensors without values: models are built of them to count and to predict."""

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def has_values(tensor: Tensor) -> bool:
    """Return whether a tensor holds numbers: fake ones and those of the meta device do not."""
    return not (isinstance(tensor, FakeTensor) or tensor.is_meta)
