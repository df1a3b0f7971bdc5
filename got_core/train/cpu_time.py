"""What a training costs in time: on the processor, and in waiting."""

from __future__ import annotations

import resource
import time


class CpuTimer:
    """CPU seconds of this process, and of the children that it has waited for, since the clock was made."""

    def __init__(self) -> None:
        self._start = _spent()

    def seconds(self) -> float:
        """User and system time, over all threads."""
        return _spent() - self._start


class Stopwatch:
    """Wall-clock seconds inside of its ``with`` blocks, added up in ``seconds``."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.monotonic() - self._started


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
