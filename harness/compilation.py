"""Steps compiled by torch.compile, where ``train.compile`` asks for it."""

import os
import shutil

import torch

from harness.config import TrainConfig
from harness.errors import UserError

COMPILERS = ("g++", "clang++")
"""Of C++, one of which torch.compile needs on a CPU; ``CXX`` may name another."""


def check_compiler(train: TrainConfig, device: torch.device) -> None:
    """Refuse ``train.compile`` where nothing can compile.

    Raises:
        UserError: there is no C++ compiler for a CPU's code.
    """
    if not train.compile or device.type != "cpu":
        return
    names = [name for name in (os.environ.get("CXX"), *COMPILERS) if name]
    if not any(map(shutil.which, names)):
        raise UserError(
            f"train.compile=true: torch.compile needs a C++ compiler for a CPU, and none of "
            f"{', '.join(names)} is on the path; install one, or leave train.compile=false."
        )
