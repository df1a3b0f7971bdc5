"""What a machine is that trains: versions, room on disks, memory, GPUs.

Belongs here: finding it out on that machine. Not here: what it can reach, and what it needs (``preflight``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

import got_core
from got_core.filesystems import local_path

PACKAGES = ("torch", "transformers", "diffusers", "peft", "ray", "safetensors", "numpy")
OWN = "got"
GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong."""

    what: str
    """Such as ``storage``."""
    found: str
    needed: str
    advice: str
    """What to do."""

    def __str__(self) -> str:
        found = " ".join(self.found.split())
        return f"{self.what}: {found}; needed: {self.needed}; what to do: {self.advice}"


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a node found, of itself and of what it can reach."""

    versions: Mapping[str, str]
    disk: Mapping[str, int] = field(default_factory=dict)
    """Free bytes by folder."""
    memory: int | None = None
    """Free bytes; None: not known on this system."""
    gpus: tuple[tuple[str, float], ...] = ()
    """Name and memory in GB (10^9 bytes) of each."""
    faults: tuple[Fault, ...] = ()

    def summary(self) -> str:
        """What it has, in a line."""
        room = ", ".join(f"{free / GB:.1f} GB free at {folder}" for folder, free in self.disk.items())
        memory = "" if self.memory is None else f", {self.memory / GB:.1f} GB of memory free"
        gpus = ", ".join(f"{name} {size:.0f} GB" for name, size in self.gpus) or "no GPU"
        return f"{room}{memory}, {gpus}"


def versions() -> dict[str, str]:
    """Of Python, PACKAGES and this package, with a digest of its source; ``none`` where one is missing."""
    found = {"Python": platform.python_version()}
    for name in (*PACKAGES, OWN):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found | {OWN: f"{found[OWN]} (source {_source_digest()})"}


@cache
def _source_digest() -> str:
    root, digest = Path(got_core.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def free_memory(
    info: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> int | None:
    """Free bytes of the machine, or the limit of the container where that is less; None: not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            free = min(free, int(limit.read_text()))
        return free
    return None


def gpus() -> tuple[tuple[str, float], ...]:
    """Name and GB of each GPU as the driver's tool tells: Ray hides them from a task that asks for none."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        rows = [line.rpartition(",") for line in done.stdout.splitlines() if line.strip()]
        return tuple((name.strip(), int(mebibytes) * 2**20 / GB) for name, _, mebibytes in rows)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()


def staging_folders(storage_url: str) -> list[str]:
    """Where checkpoints and pipelines are staged, and where copies from a remote storage are kept."""
    folders = [tempfile.gettempdir()]
    if local_path(storage_url) is None:
        cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        there = next(one for one in (cache_folder, *cache_folder.parents) if one.exists())
        folders.append(str(there))
    return list(dict.fromkeys(folders))
