"""Ray for this process: connecting to a cluster, or starting it here, and leaving it.

Belongs here: sessions. Not here: what runs in them. Ray is imported where a session begins.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from got_core.memory import give_back_memory


@contextmanager
def ray_session(address: str | None, cpus: int | None = None) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine; what was started here is stopped at the end, or
    stays for the next one (`sessions_stay`).

    ``cpus`` is the number of workers that must be able to run at once on a machine of fewer cores.
    """
    import ray

    _end_kept()
    stay = _STAY[-1] if _STAY else _Stay()
    if stay.begun and not stay.inside and not stay.will_do(address, cpus):
        stay.end()
    if not ray.is_initialized():
        _start(address, cpus)
        stay.begun, stay.address = True, address
    stay.inside += 1
    give_back_memory()  # it only waits now, for processes that need memory
    try:
        with _plain_interrupts():
            yield
    finally:
        stay.inside -= 1
        if stay not in _STAY:
            stay.end()


@contextmanager
def _plain_interrupts() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt meanwhile.

    A step of Dagster has an exception of its own, for which Ray's `get` and `wait` would not return before
    what they wait for is there (Ray 2.60).
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)  # Ray Train leaves a handler behind


@contextmanager
def sessions_stay() -> Iterator[None]:
    """Ray that a `ray_session` starts meanwhile stays for those that follow: starting it takes seconds, and
    many of them processor time. Nothing is started where none begins."""
    _STAY.append(_Stay())
    try:
        yield
    finally:
        _STAY.pop().end()


@dataclass(eq=False)
class _Stay:
    """A session, once it has begun."""

    begun: bool = False
    inside: int = 0
    """Users at the moment."""
    address: str | None = None

    def will_do(self, address: str | None, cpus: int | None) -> bool:
        """Whether it is still there, and is what another one would be."""
        import ray

        found: dict[str, float] = {}
        with suppress(Exception):  # whatever a Ray raises that has ended
            found = ray.cluster_resources()
        return address == self.address and found.get("CPU", 0) >= (0 if address else cpus or 1)

    def end(self) -> None:
        """Leave it, so that its places and processors are free."""
        if self.begun:
            import ray

            ray.shutdown()
        self.begun = False


_STAY: list[_Stay] = []


def keep_session(address: str | None, cpus: int, end: Callable[[], None]) -> None:
    """Connect or start as `ray_session` does, and stay so until the next `ray_session`, or the process' end.

    `end` is called before: what was kept in the session makes room.
    """
    import ray

    for stay in _STAY:
        stay.end()
    if not ray.is_initialized():
        _start(address, cpus)
        _KEPT.append(end)


_KEPT: list[Callable[[], None]] = []


def _end_kept() -> None:
    """Leave a session that was kept, so that its places and processors are free."""
    while _KEPT:
        import ray

        _KEPT.pop()()
        ray.shutdown()


def _start(address: str | None, cpus: int | None) -> None:
    import ray

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
