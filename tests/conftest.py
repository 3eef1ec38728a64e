"""Workers share the machine's cores: one thread each, which sleeps instead of spinning."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

settings.register_profile("untimed", deadline=None)  # a first example may import what it needs
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Take back the threads that a run has set for its process."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed the global generator of torch, from which layers and routers draw, for every test."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
