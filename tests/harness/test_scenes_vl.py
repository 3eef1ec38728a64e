"""The bundled backbone's own: images of any size."""

import numpy as np
import torch

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
