"""Processes of one training, started at once, and the group that they form.

Not here: what they do (`two_workers`, `four_workers`, …).
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from torch import distributed as dist
from torch import multiprocessing
from torch.distributed import distributed_c10d

_PRELOADED = ["__main__", "got_core.train.data.passes", "tests.got_core.train.two_workers"]
"""Imported once for all of them: a process that imports what training needs takes many seconds."""


def start_server() -> None:
    """Start the process that all others are forked from; it is the one of decoder processes, too."""
    multiprocessing.set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()


def side_by_side(work: Callable[..., None], arguments: tuple[Any, ...], *, count: int) -> None:
    """Run ``work(rank, *arguments)`` in so many processes; what one of them raises is raised here."""
    start_server()
    multiprocessing.start_processes(work, arguments, nprocs=count, start_method="forkserver")


_LEFT: list[dist.ProcessGroup] = []


def join_group(file: Path, rank: int, count: int, backend: str = "gloo") -> None:
    """Form the group of so many processes that meet at a file."""
    dist.init_process_group(backend, f"file://{file}", rank=rank, world_size=count)


def leave_group() -> None:
    """Leave the group; it stays in memory until the process ends.

    Where a model of DDP, or torch itself, frees a group with Python's lock held, it waits for the group's
    thread; that thread waits for the lock, as long as it has tensors to let go of (torch 2.13, gloo).
    """
    _LEFT.extend(distributed_c10d._world.pg_map)
    dist.destroy_process_group()
