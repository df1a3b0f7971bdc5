"""How long each phase of a run took, and how busy the processors were meanwhile.

Belongs here: measuring this process and all that it has started. Not here: what is done in a phase (`run`),
how long it should take (`run_estimate`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

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

    @classmethod
    def since_start(cls) -> Meter:
        """With the time from the start of this process until now as its first phase."""
        already = time.time() - psutil.Process().create_time()
        return cls({START: Phase(START, already, tree_cpu_seconds())}, begun=time.monotonic() - already)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what is done meanwhile to a phase; phases do not overlap."""
        started, before = time.monotonic(), tree_cpu_seconds()
        try:
            yield
        finally:
            one = self.phases.setdefault(name, Phase(name))
            one.seconds += time.monotonic() - started
            # a process that ended without being waited for takes its time along
            one.cpu_seconds += max(0.0, tree_cpu_seconds() - before)

    @property
    def elapsed(self) -> float:
        """Seconds from the beginning until now, in phases and between them."""
        return time.monotonic() - self.begun

    @property
    def cpu_seconds(self) -> float:
        """Of all phases, all processes together, as far as it is known by now."""
        return max(tree_cpu_seconds(), sum(one.cpu_seconds for one in self.phases.values()))

    @property
    def cores_busy(self) -> float:
        """On average from the beginning until now; of a meter since the process's start."""
        return self.cpu_seconds / self.elapsed


def tree_cpu_seconds() -> float:
    """Processor time of this process and of all that it has started, those that have ended among them."""
    own = psutil.Process()
    return sum(map(_cpu_seconds, [own, *own.children(recursive=True)]))


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        spent = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    ended = getattr(spent, "children_user", 0.0) + getattr(spent, "children_system", 0.0)  # Linux counts them
    return spent.user + spent.system + ended
