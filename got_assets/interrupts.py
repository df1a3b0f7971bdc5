"""Ctrl-C that is never lost.

Belongs here: interrupts that Python drops. Not here: what an interrupted command does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

RAISED = ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
"""What SIGINT raises, outside Dagster's steps and inside them."""
_MOMENT = 0.05  # s


@dataclass(frozen=True)
class _Hook:
    before: Callable[[sys.UnraisableHookArgs], object]

    def __call__(self, dropped: sys.UnraisableHookArgs) -> None:
        if not any(kind.__name__ in RAISED for kind in dropped.exc_type.__mro__):
            self.before(dropped)
            return
        # In a moment: at once, it would be raised in here and be dropped as well.
        again = threading.Timer(_MOMENT, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()


def keep_interrupts() -> None:
    """Send this process SIGINT again where the exception that it raised was dropped.

    Python runs a signal's handler between any two instructions of the main thread. What it raises in a
    finalizer or in a weak reference's callback goes no further than `sys.unraisablehook`: the signal would
    have no effect.
    """
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)
