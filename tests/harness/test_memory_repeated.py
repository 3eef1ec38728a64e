"""Results that are remembered are what PyTorch's own mode, and a real operation, give."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
)
from torch.nn import functional as F

from harness.memory.repeated import RepeatingFakeMode
from harness.memory.tracker import tensors_in

OPERATIONS: dict[str, Callable[[Tensor], object]] = {
    "sum of a number": lambda x: x + 1,
    "integer division by a whole number": lambda x: x.long() * 2,
    "integer times a fraction": lambda x: x.long() * 2.0,
    "product of matrices": lambda x: x @ x.mT,
    "linear layer of three dimensions": lambda x: F.linear(x, x[0, :, :].contiguous()),
    "view": lambda x: x.view(-1),
    "transposed view": lambda x: x.transpose(0, 2),
    "slice with an offset": lambda x: x[1:, ..., 1:],
    "expanded view": lambda x: x[:, :1].expand(-1, 5, -1),
    "views of one storage": lambda x: x.split(2, dim=-1),
    "views of unbound rows": lambda x: x.unbind(0),
    "concatenation": lambda x: torch.cat([x, x], dim=1),
    "reshape that copies": lambda x: x.mT.reshape(-1),
    "reshape that views": lambda x: x.reshape(-1),
    "in place": lambda x: x.add_(1),
    "in place on a view": lambda x: x[0].mul_(2),
    "several in place": lambda x: torch._foreach_add_([x, x.clone()], 1.0),
    "several": lambda x: torch._foreach_mul([x, x.clone()], 2.0),
    "norm with statistics": lambda x: torch.native_layer_norm(x, x.shape[-1:], None, None, 1e-5),
    "dropout with a mask": lambda x: torch.native_dropout(x, 0.5, True),
    "softmax in another type": lambda x: x.softmax(-1, dtype=torch.float64),
    "other type": lambda x: x.to(torch.bfloat16),
    "same type": lambda x: x.to(torch.float32),
    "detached": lambda x: x.detach(),
    "filled like": lambda x: torch.zeros_like(x),
    "made from nothing": lambda x: torch.arange(x.shape[-1], device=x.device),
    "indexed by whole numbers": lambda x: x[torch.zeros(3, dtype=torch.long)],
    "complex": lambda x: torch.complex(x, x).conj().imag,
    "into an output": lambda x: torch.add(x.detach(), 1, out=torch.empty_like(x.detach())),
    "resized": lambda x: torch.empty(1).resize_(x.shape),
}


def geometry(result: object, source: Tensor) -> list[object]:
    """Return what a tracker can see of a result: sizes, and which storages are the same."""
    tensors = list(tensors_in([result, source]))
    storages = [tensor.untyped_storage()._cdata for tensor in tensors]
    return [
        (
            *(tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), tensor.dtype),
            tensor.untyped_storage().nbytes(),
            storages.index(storage),
            tensor is source,
            tensor.requires_grad,
        )
        for tensor, storage in zip(tensors, storages, strict=True)
    ]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_the_first_result_and_a_remembered_one_are_those_of_real_tensors(operation, grad):
    def run(x: Tensor) -> list[object]:
        x = x.clone() if grad else x
        return geometry(operation(x), x)

    real = run(torch.ones(2, 4, 4, requires_grad=grad))
    with RepeatingFakeMode():
        for _ in range(3):
            assert run(torch.ones(2, 4, 4, requires_grad=grad)) == real


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from(("fp32", "bf16"))),
        min_size=2,
        max_size=6,
    )
)
def test_operations_of_other_shapes_and_types_are_not_taken_for_each_other(cases):
    def run(rows: int, columns: int, dtype: str) -> list[object]:
        x = torch.ones(rows, columns, dtype=torch.float32 if dtype == "fp32" else torch.bfloat16)
        return geometry([x.mT @ x, x.sum(0), x * 1, x.mT.contiguous()], x)

    real = [run(*case) for case in cases]
    with RepeatingFakeMode():
        assert [run(*case) for case in cases] == real


def test_a_gradient_is_as_large_as_a_real_one():
    def run() -> list[object]:
        x = torch.ones(3, 4, requires_grad=True)
        (F.gelu(x @ x.T).softmax(-1) * 2).sum().backward()
        assert x.grad is not None
        return geometry(x.grad, x)

    real = run()
    with RepeatingFakeMode():
        assert [run(), run()] == [real, real]


def test_a_repeated_operation_does_not_reach_the_mode_of_pytorch(monkeypatch):
    with RepeatingFakeMode() as mode:
        x = torch.ones(3, 4)
        assert isinstance(x * 2, FakeTensor)
        monkeypatch.setattr(mode, "_cached_dispatch_impl", None)
        assert (x * 2).shape == (3, 4)
        with pytest.raises(TypeError):
            x * 2.5


def test_what_depends_on_values_fails_as_in_the_mode_of_pytorch():
    with RepeatingFakeMode():
        x = torch.ones(3)
        for _ in range(2):
            with pytest.raises(DynamicOutputShapeException):
                x[x > 0]
            with pytest.raises(DataDependentOutputException):
                x.sum().item()
