"""How long each phase of a run took, and how busy the processors were meanwhile.

Belongs here: phases. Not here: the time of processes (`tree_clock`), what is done in a phase (`run`), how
long it should take (`run_estimate`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from got_assets.tree_clock import TreeClock
from got_core.processes import this_process

START = "start"
"""The phase from the process's start to that of its meter."""


@dataclass
class Phase:
    """What one phase took; one that comes again is added to."""

    name: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of all processes together."""

    @property
    def cores_busy(self) -> float:
        """On average."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0


@dataclass
class Meter:
    """Phases of the work of this process and of the processes below it."""

    phases: dict[str, Phase] = field(default_factory=dict)
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    begun: float = field(default_factory=time.monotonic)
    clock: TreeClock = field(default_factory=TreeClock)

    @classmethod
    def since_start(cls) -> Meter:
        """With the time from the start of this process until now as its first phase."""
        already, clock = _seconds_since_start(), TreeClock()
        start = Phase(START, already, clock.seconds())
        return cls({START: start}, begun=time.monotonic() - already, clock=clock)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what is done meanwhile to a phase; phases do not overlap."""
        started, before = time.monotonic(), self.clock.seconds()
        try:
            with self.clock.looking():
                yield
        finally:
            one = self.phases.setdefault(name, Phase(name))
            one.seconds += time.monotonic() - started
            one.cpu_seconds += self.clock.seconds() - before

    @property
    def elapsed(self) -> float:
        """Seconds from the beginning until now, in phases and between them."""
        return time.monotonic() - self.begun

    @property
    def cpu_seconds(self) -> float:
        """Of all processes together, from the start of this one until now."""
        return self.clock.seconds()

    @property
    def cores_busy(self) -> float:
        """On average from the beginning until now; of a meter since the process's start."""
        return self.cpu_seconds / self.elapsed


def _seconds_since_start() -> float:
    """By a clock that nobody sets, where the system has it."""
    started = this_process().started
    if started >= 0 and hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.time() - psutil.Process().create_time())
