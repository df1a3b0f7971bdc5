"""The machine: processor, GPU, memory, disk.

Belongs here: what there is of each, and whether it will do. Not here: services elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from pathlib import Path

from got_core.doctor.finding import Finding, fail, ok, warn

GB = 1e9
MEMORY_GB = 6.0
"""`make run` took 4.8 GiB, all processes together."""
DISK_GB, LEAST_DISK_GB = 5.0, 0.5
_FEATURES = {
    "amx_bf16": "bf16 matrix instructions (AMX)",
    "avx512_bf16": "bf16 instructions (AVX-512)",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "sve": "SVE",
    "bf16": "bf16 instructions",
}
_MATRIX = "amx_bf16"


def check_processor(info: Path = Path("/proc/cpuinfo")) -> Finding:
    """Cores of this process, and the instructions that training profits from."""
    described = _cpuinfo(info)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = set(described.get("flags", described.get("Features", "")).split())
    named = [text for flag, text in _FEATURES.items() if flag in flags]
    name = described.get("model name", platform.processor() or platform.machine())
    if _MATRIX not in flags:
        named.append("no bf16 matrix instructions: training on the CPU takes longer than the figures given")
    return ok("processor", f"{name}, {cores} cores, {', '.join(named)}")


def _cpuinfo(info: Path) -> dict[str, str]:
    """Of the first core."""
    with contextlib.suppress(OSError):
        first = info.read_text().split("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        return {key.strip(): value.strip() for key, _, value in pairs}
    return {}


def check_gpu() -> Finding:
    """What torch can use."""
    try:
        import torch
    except Exception as error:  # whatever a broken installation raises
        return fail(
            "gpu", f"`import torch` fails: {type(error).__name__}: {error}", "pip install 'torch>=2.13,<2.14'"
        )
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
        names = (f"{one.name}, {one.total_memory / GB:.0f} GB" for one in found)
        return ok("gpu", f"{'; '.join(names)} (torch {torch.__version__})")
    if shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists():
        return warn(
            "gpu",
            f"there is one, but torch {torch.__version__} cannot use it",
            "see that the driver works, and install torch's CUDA build: "
            "pip install --force-reinstall 'torch>=2.13,<2.14'",
        )
    return ok("gpu", "none; the recipe embedded is made for processors")


def check_memory(
    info: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> Finding:
    """Memory of the machine, or of the container where that has less."""
    sizes = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            sizes[key] = int(value.split()[0]) * 1024
    if "MemTotal" not in sizes:
        return warn("memory", "not known on this system", f"see that there are {MEMORY_GB:g} GB")
    total, free = sizes["MemTotal"], sizes.get("MemAvailable", sizes["MemTotal"])
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        total = min(total, int(limit.read_text()))
    found = f"{total / GB:.1f} GB, {min(free, total) / GB:.1f} GB free"
    if min(free, total) / GB < MEMORY_GB:
        return warn(
            "memory", found, f"`make run` takes about {MEMORY_GB:g} GB: end other programs, or add some"
        )
    return ok("memory", found)


def check_disk(home: Path) -> Finding:
    """Room where runs leave what they make."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    try:
        free = shutil.disk_usage(there).free / GB
    except OSError as error:
        return fail("disk", f"{there}: {error.strerror}", "set GOT_HOME to a folder that can be used")
    found = f"{free:.1f} GB free at {home}"
    if free < LEAST_DISK_GB:
        return fail("disk", found, "make room, or set GOT_HOME to another disk")
    if free < DISK_GB:
        return warn("disk", found, f"a run leaves up to {DISK_GB:g} GB: make room, or set GOT_HOME")
    return ok("disk", found)
