"""The bundled backbone's own: images of any size."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from harness.backbones.scenes_vl.stem import neighbourhoods
from harness.testing.small import small_backbone

PICTURE = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)


def test_images_of_any_size_are_read_at_its_own() -> None:
    process = small_backbone("scenes_vl").processors()["image"]
    own = process(PICTURE)["pixels"]
    assert torch.equal(own, torch.from_numpy(PICTURE).permute(0, 3, 1, 2))
    doubled = process(PICTURE.repeat(2, axis=1).repeat(3, axis=2))["pixels"]
    assert doubled.shape == own.shape
    assert doubled.dtype == torch.uint8
    plain = process(np.full((1, 224, 224, 3), 77, dtype=np.uint8))["pixels"]
    assert (plain == 77).all()


def unfolded(grid: Tensor) -> Tensor:
    """Take every second 3 x 3 neighbourhood by PyTorch's own gathering, channels last."""
    batch, height, width, channels = grid.shape
    columns = functional.unfold(grid.permute(0, 3, 1, 2), 3, padding=1, stride=2)  # [B, 9 C, H W/4]
    parts = columns.unflatten(1, (channels, 9)).permute(0, 3, 2, 1)  # [B, H W / 4, 9, C]
    return parts.reshape(batch, height // 2, width // 2, 9 * channels)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_neighbourhoods_and_their_gradients_are_those_of_unfold(
    batch: int, rows: int, columns: int, channels: int
) -> None:
    generator = torch.Generator().manual_seed(batch + 10 * rows + 100 * columns)
    shape = (batch, 2 * rows, 2 * columns, channels)
    grid = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    taken, expected = neighbourhoods(grid), unfolded(grid)
    assert torch.equal(taken, expected)
    weights = torch.randn(taken.shape, generator=generator, dtype=torch.float64)
    found, wanted = (torch.autograd.grad((t * weights).sum(), grid)[0] for t in (taken, expected))
    torch.testing.assert_close(found, wanted)
