"""An interrupt that Python drops, that a library takes for an error, or that reaches a helper process."""

from __future__ import annotations

import subprocess
import sys
import traceback
from textwrap import indent

import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._utils.error import SerializableErrorInfo

from got_assets.interrupts import is_interrupt

START = """\
import signal, threading, weakref
from got_assets.interrupts import keep_interrupts

class Held: ...

keep_interrupts()
held = Held()
"""
IN_FINALIZER = "Held.__del__ = lambda _: signal.raise_signal(signal.SIGINT)\ndel held\n"
IN_CALLBACK = "ref = weakref.ref(held, lambda _: signal.raise_signal(signal.SIGINT))\ndel held\n"
WAITS = "threading.Event().wait(30)\nprint('waited to its end')\n"


def _ended(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START + code],
        capture_output=True, text=True, timeout=120, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("lost", [IN_FINALIZER, IN_CALLBACK], ids=["finalizer", "weak reference"])
def test_a_lost_interrupt_comes_again(lost: str) -> None:
    ended = _ended(lost + WAITS)
    assert (ended.stdout, ended.returncode) == ("", -2)
    assert "Exception ignored" not in ended.stderr
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_lost_interrupt_of_a_step_comes_again() -> None:
    step = "from dagster._core.errors import raise_execution_interrupts\nwith raise_execution_interrupts():\n"
    ended = _ended(step + indent(IN_FINALIZER + WAITS, "    "))
    assert (ended.stdout, ended.returncode) == ("", 1)
    assert "Exception ignored" not in ended.stderr
    assert "DagsterExecutionInterruptedError" in ended.stderr.splitlines()[-1]


def raised(*errors: BaseException) -> BaseException:
    """The last of errors of which each was raised because of the one before it."""
    found: BaseException | None = None
    for error in errors:
        try:
            raise error from found
        except BaseException as caught:
            found = caught
    assert found
    return found


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), True),
        (raised(DagsterExecutionInterruptedError(), SystemError("an exception set"), ValueError("x")), True),
        (raised(OSError("x"), ValueError("y")), False),
    ],
)
def test_what_comes_of_an_interrupt_is_one(error: BaseException, expected: bool) -> None:
    assert is_interrupt(error) == expected
    stored = SerializableErrorInfo.from_traceback(traceback.TracebackException.from_exception(error))
    assert is_interrupt(stored) == expected


def test_an_error_that_replaces_an_interrupt_is_none() -> None:
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ValueError("nothing was chosen") from None
    except ValueError as error:
        assert not is_interrupt(error)
        error.__suppress_context__ = False
        assert is_interrupt(error)


CLOSED = """\
import sqlite3
import sqlalchemy

class Connection(sqlite3.Connection):
    def close(self):
        super().close()
        signal.raise_signal(signal.SIGINT)

engine = sqlalchemy.create_engine("sqlite://", connect_args={"factory": Connection})
engine.connect().close()
"""


def test_an_interrupt_that_a_library_logs_is_no_error() -> None:
    ended = _ended(CLOSED + "try:\n    engine.dispose()\nexcept KeyboardInterrupt:\n    print('interrupted')")
    assert (ended.stdout, ended.stderr, ended.returncode) == ("interrupted\n", "", 0)


def test_it_is_told_for_debugging() -> None:
    ended = _ended(
        "import logging\nlogging.basicConfig(level=logging.DEBUG)\ntry:\n    raise KeyboardInterrupt\n"
        "except KeyboardInterrupt:\n    logging.exception('broken off')"
    )
    assert ended.stderr.startswith("DEBUG:root:broken off\nTraceback")


def test_other_errors_are_logged_as_before() -> None:
    ended = _ended("import logging\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('no')")
    assert ended.stderr.startswith("ERROR:root:no\nTraceback")


def test_other_errors_that_python_drops_are_told_as_before() -> None:
    ended = _ended("Held.__del__ = lambda _: 1 / 0\ndel held\nprint('went on')")
    assert (ended.stdout, ended.returncode) == ("went on\n", 0)
    assert "Exception ignored" in ended.stderr and "ZeroDivisionError" in ended.stderr


STEP = """\
import os
import time
import dagster as dg
from dagster._core.storage.compute_log_manager import ComputeIOType
from got_assets.interrupts import keep_interrupts_from_capture

@dg.op
def interrupted():
    print("begun", flush=True)
    time.sleep(2)  # all that copies it has started
    os.killpg(0, signal.SIGINT)  # as a terminal does
    threading.Event().wait(30)

with dg.DagsterInstance.local_temp() as instance:
    keep_interrupts_from_capture(instance)
    try:
        dg.GraphDefinition("steps", node_defs=[interrupted]).execute_in_process(instance=instance)
    except dg.DagsterExecutionInterruptedError:
        logs, [run] = instance.compute_log_manager, instance.get_runs()
        [key] = logs.get_log_keys_for_log_key_prefix([run.run_id, "compute_logs"], ComputeIOType.STDOUT)
        print("kept:", logs.get_log_data(key).stdout.decode().strip())
"""


def test_what_copies_the_output_of_steps_is_not_interrupted() -> None:
    ended = _ended(STEP)
    assert ended.stdout.splitlines()[-1] == "kept: begun"
    assert "Traceback" not in ended.stderr
