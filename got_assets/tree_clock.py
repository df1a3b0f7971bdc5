"""Processor time of this process and of all below it, those that have ended among them.

Belongs here: looking at the processes of this machine, and keeping what they spent. Not here: what they do
meanwhile (`meter`).

The system adds a process's time to its parent's when the parent waits for its end. Where nobody does (the
parent ended first, or ignores how its children end, as what starts Ray's workers may), the time is gone: it
is known only to who looked before.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

_SHARE = 0.02
"""Largest share of a core that looking takes where the machine has very many processes."""


@dataclass(frozen=True)
class _Spent:
    """Of one process, in seconds."""

    parent: int
    own: float
    ended: float
    """Of its children whose end it has waited for, and of theirs; Linux says it."""

    @property
    def total(self) -> float:
        return self.own + self.ended


class TreeClock:
    """Seconds of processor time that never go back. May be asked by several threads.

    Args:
        root: who counts with all below; by default this process.
        look_seconds: between two looks at least. Of a process whose time nobody takes over, that of the last
            look counts.
    """

    def __init__(self, root: psutil.Process | None = None, look_seconds: float = 1.0) -> None:
        self._root, self._look_seconds = root or psutil.Process(), look_seconds
        self._last: dict[psutil.Process, _Spent] = {}
        self._gone = 0.0
        self._lock = threading.Lock()

    def seconds(self) -> float:
        """Spent until now by the root and all that were ever seen below it."""
        with self._lock:
            self._look()
            return self._gone + sum(one.total for one in self._last.values())

    def known(self, process: psutil.Process) -> float:
        """What a process itself had spent at the last look; 0 where it was not seen."""
        with self._lock:
            return self._last[process].own if process in self._last else 0.0

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look about every `look_seconds` meanwhile, so that little is lost of processes that end."""
        finished = threading.Event()

        def look() -> None:
            pause = self._look_seconds
            while not finished.wait(pause):
                started = time.thread_time()
                self.seconds()
                pause = max(self._look_seconds, (time.thread_time() - started) / _SHARE)

        thread = threading.Thread(target=look, name="processor time", daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()

    def _look(self) -> None:
        now = dict(_processes())
        ours = self._ours(now)
        by_number = {one.pid: one for one in self._last}
        ended = defaultdict[psutil.Process | None, float](float)
        for process in self._last.keys() - ours:
            # Who may have taken over its time: the nearest of ours above it.
            heir: psutil.Process | None = process
            while heir is not None and heir not in ours:
                heir = by_number.get(self._last[heir].parent)
            ended[heir] += self._last[process].total
        for heir, spent in ended.items():
            taken = now[heir].ended - self._last[heir].ended if heir else 0.0
            self._gone += max(0.0, spent - taken)
        self._last = {process: now[process] for process in ours}

    def _ours(self, now: dict[psutil.Process, _Spent]) -> set[psutil.Process]:
        """Who is there of those seen before, wherever they belong by now, and who is below them."""
        children = defaultdict[int, list[psutil.Process]](list)
        for process, spent in now.items():
            children[spent.parent].append(process)
        waiting = [process for process in (self._root, *self._last) if process in now]
        ours = set[psutil.Process]()
        while waiting:
            process = waiting.pop()
            if process not in ours:
                ours.add(process)
                waiting += children[process.pid]
        return ours


def _processes() -> Iterable[tuple[psutil.Process, _Spent]]:
    for process in psutil.process_iter(["ppid", "cpu_times"]):
        parent, times = process.info["ppid"], process.info["cpu_times"]
        if parent is not None and times is not None:  # others' processes may not be looked at
            ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            yield process, _Spent(parent, times.user + times.system, ended)
