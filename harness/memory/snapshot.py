"""The CUDA allocator's own history of a step, in a file for https://pytorch.org/memory_viz.

The file is a pickle, which PyTorch's viewer reads in the browser. Nothing here reads it.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from harness.errors import UserError


def check_snapshots(folder: Path, device: torch.device) -> None:
    """Make the folder of snapshots.

    Raises:
        UserError: the device's allocator keeps no history, or the folder cannot be made.
    """
    if device.type != "cuda":
        raise UserError(
            f"--snapshot {folder}: CUDA's allocator alone keeps a history, and the steps would run "
            f"on {device}. Run them with --device cuda, or leave --snapshot out; `harness memory "
            f"timeline` shows a run's step on any device."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--snapshot {folder}: this folder cannot be made ({error.strerror}). "
            f"Give a folder that you may write to."
        ) from error


def write_snapshot(step: Callable[[], None], path: Path) -> None:
    """Run a step while the allocator keeps its history, and write that to a file.

    The history is switched off again however the step ends. Only a step that ends well leaves a
    file, which is whole at any time.

    Args:
        step: a step that has run before, so that what it makes once is there.
        path: the file.
    """
    part = path.with_name(f"{path.name}.part")
    torch.cuda.memory._record_memory_history(stacks="python")
    try:
        step()
        torch.cuda.memory._dump_snapshot(str(part))
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    part.replace(path)
