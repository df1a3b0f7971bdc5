"""An interrupt that comes where Python cannot raise it."""

from __future__ import annotations

import subprocess
import sys
from textwrap import indent

import pytest

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
    return subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, timeout=120)


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


def test_other_errors_that_python_drops_are_told_as_before() -> None:
    ended = _ended("Held.__del__ = lambda _: 1 / 0\ndel held\nprint('went on')")
    assert (ended.stdout, ended.returncode) == ("went on\n", 0)
    assert "Exception ignored" in ended.stderr and "ZeroDivisionError" in ended.stderr
