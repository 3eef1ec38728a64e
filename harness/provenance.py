"""What is recorded about where a run was made."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from harness.processor import cpu_name

PACKAGES = ("metl-harness", "torch", "transformers", "timm", "numpy", "safetensors", "tokenizers")


def packages() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """Return the name of the processor behind ``device``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def commit() -> tuple[str | None, bool | None]:
    """Return the source's commit and whether files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None, None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
