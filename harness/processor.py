"""What this machine computes with, told without torch."""

import platform
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
GPU_DRIVERS = (
    "/proc/driver/nvidia",
    "/dev/nvidiactl",
    "/dev/nvhost-ctrl",  # Jetson
    "/dev/dxg",  # Windows' Linux
    "/dev/kfd",  # AMD
)


@cache
def cpu_name() -> str:
    """Return the name of the processor."""
    lines = _cpuinfo()
    if lines is None:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@cache
def native_bf16() -> bool | None:
    """Return whether bf16 products are no slower than fp32 ones on the processor.

    A CPU without AVX-512 (or Arm's bf16 instructions) converts every number back and forth, which
    made a run four to five times slower where it was measured.

    Returns:
        None where the system does not tell; PyTorch does.
    """
    listed = [line for line in _cpuinfo() or () if line.startswith(("flags", "Features"))]
    flags = set(listed[0].partition(":")[2].split()) if listed else set()
    if flags >= AVX512 or "bf16" in flags:
        return True
    # Processors with AVX-VNNI may have bf16 conversions too, which no flag names.
    return None if not flags or "avx_vnni" in flags else False


def may_have_gpu() -> bool:
    """Return False where no GPU has a driver; where one has, only PyTorch knows what it can do."""
    return any(Path(path).exists() for path in GPU_DRIVERS)


def _cpuinfo() -> list[str] | None:
    """Return what Linux says of the processor, line by line; None elsewhere."""
    try:
        return CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
