"""Ctrl-C that is never lost, and no error to the logs.

Belongs here: interrupts that Python drops, or that a library logs. Not here: what an interrupted command
does.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RAISED = ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
"""What SIGINT raises, outside Dagster's steps and inside them."""
_MOMENT = 0.05  # s


def _is_interrupt(raised: type[BaseException]) -> bool:
    return any(kind.__name__ in RAISED for kind in raised.__mro__)


@dataclass(frozen=True)
class _Hook:
    before: Callable[[sys.UnraisableHookArgs], object]

    def __call__(self, dropped: sys.UnraisableHookArgs) -> None:
        if not _is_interrupt(dropped.exc_type):
            self.before(dropped)
            return
        # In a moment: at once, it would be raised in here and be dropped as well.
        again = threading.Timer(_MOMENT, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()


@dataclass(frozen=True)
class _RecordFactory:
    before: Callable[..., logging.LogRecord]

    def __call__(self, *given: Any, **named: Any) -> logging.LogRecord:
        record = self.before(*given, **named)
        kind = record.exc_info[0] if record.exc_info else None
        if kind and _is_interrupt(kind):
            record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return record


def keep_interrupts() -> None:
    """Lose no SIGINT of this process, and log none as an error.

    Python runs a signal's handler between any two instructions of the main thread. What it raises in a
    finalizer or in a weak reference's callback goes no further than `sys.unraisablehook`: the signal would
    have no effect, so it is sent again. Where a library logs the exception and raises it again (SQLAlchemy,
    as it closes a connection), the record is for debugging, whatever level the library gives it.
    """
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)
    if not isinstance(logging.getLogRecordFactory(), _RecordFactory):
        logging.setLogRecordFactory(_RecordFactory(logging.getLogRecordFactory()))
