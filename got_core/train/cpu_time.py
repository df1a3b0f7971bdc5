"""What a training costs on the processor."""

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


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
