"""Processes of one training, started at once. Not here: what they do (`two_workers`, `four_workers`, …)."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import forkserver
from typing import Any

from torch import multiprocessing

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
