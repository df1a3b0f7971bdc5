"""Records on their way to a tracking server that may be slow, or away for a while.

Belongs here: the queue, its thread, and trying again. Not here: what is recorded (``tracking``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from mlflow.exceptions import MlflowException

from got_core.redacted import redacted_url

Call = Callable[[], object]

LONGEST_WAIT = 60.0
"""Seconds between two attempts, at most; the first ones follow sooner."""
MOST_WAITING = 10_000
"""Records that wait; beyond that the oldest go."""
_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "INVALID_STATE"}


class Sender:
    """Makes calls in their order on a thread of its own, each until it succeeds.

    Whoever hands them in never waits. What a server refuses is given up at once, with a line to ``report``;
    of a server that does not answer there is one line at the first failure and one when it answers again.
    """

    def __init__(self, report: Callable[[str], None], *, first_wait: float = 1.0) -> None:
        self._report = report
        self._first_wait = first_wait
        self._calls: deque[Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._lost = 0
        self._fault = ""
        threading.Thread(target=self._work, daemon=True, name="tracking").start()

    def put(self, call: Call) -> None:
        """Make this call after those that wait."""
        with self._changed:
            self._calls.append(call)
            while len(self._calls) > MOST_WAITING:
                self._calls.popleft()
                self._lost += 1
            self._changed.notify_all()

    def flush(self, patience: float) -> bool:
        """Wait until every call is made, at most ``patience`` seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._calls, patience)

    def close(self, patience: float) -> None:
        """Flush and end the thread. A line says what could not be sent."""
        self.flush(patience)
        with self._changed:
            missing, self._closed = len(self._calls) + self._lost, True
            self._calls.clear()
            self._changed.notify_all()
        if missing:
            self._report(
                f"MLflow lacks {missing} records of this training: {self._fault or 'it is too slow'}"
            )

    def _work(self) -> None:
        while (call := self._next()) is not None:
            self._insist(call)
            with self._changed:
                if self._calls and self._calls[0] is call:
                    self._calls.popleft()
                self._changed.notify_all()

    def _next(self) -> Call | None:
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._closed)
            return self._calls[0] if self._calls else None

    def _insist(self, call: Call) -> None:
        wait, failed_at = self._first_wait, 0.0
        while not self._closed:
            try:
                call()
            except Exception as error:
                if _is_refusal(error):
                    self._report(f"MLflow refuses a record of this training: {_sentence(error)}")
                    return
                self._fault = _sentence(error)
                if not failed_at:
                    failed_at = time.monotonic()
                    self._report(f"MLflow does not answer, records wait: {self._fault}")
                self._pause(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                if failed_at:
                    self._report(f"MLflow answers again, after {time.monotonic() - failed_at:.0f} s")
                return

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, MlflowException) and error.error_code in _REFUSALS


def _sentence(error: Exception) -> str:
    text = redacted_url(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:300]}"
