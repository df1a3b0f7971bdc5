"""Ray for this process: connecting to a cluster, or starting it here, and leaving it.

Belongs here: sessions. Not here: what runs in them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray


@contextmanager
def ray_session(address: str | None, cpus: int | None = None) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine; what was started here is stopped at the end.

    ``cpus`` is the number of workers that must be able to run at once on a machine of fewer cores.
    """
    _end_kept()
    if ray.is_initialized():
        yield
        return
    _start(address, cpus)
    try:
        yield
    finally:
        ray.shutdown()


def keep_session(address: str | None, cpus: int, end: Callable[[], None]) -> None:
    """Connect or start as `ray_session` does, and stay so until the next `ray_session`, or the process' end.

    `end` is called before: what was kept in the session makes room.
    """
    if not ray.is_initialized():
        _start(address, cpus)
        _KEPT.append(end)


_KEPT: list[Callable[[], None]] = []


def _end_kept() -> None:
    """Leave a session that was kept, so that its places and processors are free."""
    while _KEPT:
        _KEPT.pop()()
        ray.shutdown()


def _start(address: str | None, cpus: int | None) -> None:
    # Progress comes through an actor of its own; the workers' own output stays in Ray's log files.
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # "local" ignores the address file that an ended cluster may have left behind.
        options |= {"num_cpus": max(cpus or 1, os.cpu_count() or 1), "include_dashboard": False}
        # No machine is taken away here, which a process of each training's own would look for; and whether
        # workers have ended would be looked at every 2 s.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    # The behaviour of later Ray versions, chosen now; without it Ray warns about hidden GPUs.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(address=address or "local", **options)
