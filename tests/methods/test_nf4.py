"""NormalFloat storage: exact bytes, nearest levels, and the same codes when stored again."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.quantization.nf4 import Nf4Weight, nf4_levels


@settings(max_examples=30)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    block=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_stored_bytes_are_exact_and_values_the_nearest_levels(rows, columns, block, seed):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    stored = Nf4Weight(weight, "", block)
    count, blocks = weight.numel(), -(-weight.numel() // block)
    assert stored.code_bytes == -(-count // 2)
    assert stored.metadata_bytes == 4 * blocks + 4 * 16 + 4
    assert set(stored.memory_categories()) == {name for name, _ in stored.named_buffers()}
    flat = weight.view(-1)
    largest = torch.stack([part.abs().max() for part in flat.split(block)])
    possible = largest.repeat_interleave(block)[:count, None] * nf4_levels()  # [n, 16]
    nearest = (possible - flat[:, None]).abs().amin(1)
    values = stored.dequantize()
    assert torch.allclose((values - weight).view(-1).abs(), nearest, atol=1e-6)
    assert torch.equal(Nf4Weight(values, "", block).dequantize(), values)


def test_zero_survives():
    assert torch.equal(Nf4Weight(torch.zeros(3, 5), "").dequantize(), torch.zeros(3, 5))
