"""Ctrl-C that is never lost, and that nobody reports as an error.

Belongs here: interrupts that Python drops, that a library logs or makes another error of, that reach a helper
process. Not here: what an interrupted command does.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from dagster._utils.error import SerializableErrorInfo

_RAISED = ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
"""What SIGINT raises, outside Dagster's steps and inside them."""
_STORED = (*_RAISED, "SystemExit")
"""What of it is stored of a step; Ray Train turns it into SystemExit."""
_MOMENT = 0.05  # s


def _is_interrupt(raised: type[BaseException]) -> bool:
    return any(kind.__name__ in _RAISED for kind in raised.__mro__)


def is_interrupt(error: BaseException | SerializableErrorInfo | None) -> bool:
    """Whether an error is an interrupt, or comes of one; also in the form that Dagster stores.

    Ray, for one, has its own error of what is raised while it reads an answer.
    """
    while error is not None:
        if isinstance(error, BaseException):
            if _is_interrupt(type(error)):
                return True
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        else:
            if error.cls_name in _STORED:
                return True
            error = error.cause or error.context
    return False


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


def keep_interrupts_from_capture(instance: DagsterInstance) -> None:
    """Start the processes that copy what steps print so that SIGINT does not end them.

    Dagster has four for every run, in the group that a terminal sends Ctrl-C to: two would leave a traceback
    between the lines of the command. It ends them itself.
    """
    logs = instance.compute_log_manager
    logs.capture_logs = partial(_shielded, logs.capture_logs)  # type: ignore[method-assign]


@contextmanager
def _shielded(
    capture: Callable[[Sequence[str]], AbstractContextManager[Any]], log_key: Sequence[str]
) -> Iterator[Any]:
    with ExitStack() as stack:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
        try:
            context = stack.enter_context(capture(log_key))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield context
