"""Facts about this machine that numbers depend on."""

import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from harness.provenance import device_name, packages

GIB = 2**30


def examine(output: Path) -> dict[str, Any]:
    """Return versions, threads, BLAS, GPUs, memory and disk, JSON-ready.

    Args:
        output: the folder whose disk is looked at; it need not exist yet.
    """
    folder = next(p for p in (output.resolve(), *output.resolve().parents) if p.exists())
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return {
        "packages": packages(),
        "system": platform.platform(),
        "processor": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "usable_cores": len(psutil.Process().cpu_affinity() or []) or os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "blas": blas.group(1) if blas else "unknown",
        "memory_bytes": psutil.virtual_memory().total,
        "available_memory_bytes": psutil.virtual_memory().available,
        "cuda": torch.version.cuda,
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "output": str(output),
        "free_disk_bytes": shutil.disk_usage(folder).free,
    }


def _gpu(index: int) -> dict[str, Any]:
    found = torch.cuda.get_device_properties(index)
    return {"device": f"cuda:{index}", "name": found.name, "memory_bytes": found.total_memory}


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what ``examine`` returned as one line a fact, bytes in GiB."""
    for name, value in facts.items():
        label = name.removesuffix("_bytes").replace("_", " ")
        if name == "packages":
            text = ", ".join(f"{package} {version}" for package, version in value.items())
        elif name == "gpus":
            text = "; ".join(_gpu_text(gpu) for gpu in value) or "none"
        elif name.endswith("_bytes"):
            text = f"{value / GIB:.1f} GiB"
        else:
            text = str(value)
        yield f"{label:<18} {text}"


def _gpu_text(gpu: Mapping[str, Any]) -> str:
    return f"{gpu['device']} {gpu['name']}, {gpu['memory_bytes'] / GIB:.1f} GiB"
