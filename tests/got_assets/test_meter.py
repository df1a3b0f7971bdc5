"""Times of phases, and of the processes that work in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psutil
import pytest

from got_assets.meter import START, Meter
from got_assets.tree_clock import TreeClock
from got_core.processes import pid_is_gone

SPIN = "import time\nwhile time.process_time() < {}: pass\n"
ROUNDED = 4 / os.sysconf("SC_CLK_TCK")
"""Seconds by which a difference of two times may be wrong that the system counts in ticks, user and system
apart."""
WORKS = """
import os, signal, sys, time
if {ignores}:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if child := os.fork():
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        pass  # it has ended, and its time is lost
    print("ended", flush=True)
    sys.stdin.readline()
else:
    while time.process_time() < 0.3:
        pass
    print(os.getpid(), flush=True)
    sys.stdin.readline()
"""
"""A process whose child works, says so, and ends at a line of input."""
LEAVES = """
import os, sys, time
if middle := os.fork():
    os.waitpid(middle, 0)
    print("ended", flush=True)
    sys.stdin.readline()
elif os.fork():
    sys.stdin.readline()
else:
    while time.process_time() < 0.3:
        pass
    print(os.getpid(), flush=True)
    time.sleep(600)
"""
"""A process whose child has a child that works, and ends before it."""


@contextmanager
def started(code: str) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str], Callable[[], None]]]:
    """A Python process, and what reads a line from it and sends one to it."""
    command = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        yield process, process.stdout.readline, partial(print, file=process.stdin, flush=True)


def spin(seconds: float) -> float:
    """Work for so long by the clock, and in processor time; how long it was by the clock."""
    began, before = time.monotonic(), time.process_time()
    while (spent := time.monotonic() - began) < seconds or time.process_time() - before < seconds:
        pass
    return spent


def test_a_phase_counts_this_process_and_those_that_ended_in_it() -> None:
    meter = Meter()
    before = meter.cpu_seconds
    with meter.phase("here"):
        spin(0.1)
    with meter.phase("below"):
        subprocess.run([sys.executable, "-S", "-c", SPIN.format(0.3)], check=True)
    here, below = meter.phases["here"], meter.phases["below"]
    assert here.cpu_seconds >= 0.1 - ROUNDED and below.cpu_seconds >= 0.3 - ROUNDED
    assert here.cpu_seconds + below.cpu_seconds <= meter.cpu_seconds - before + 1e-6
    for one in (here, below):
        assert one.seconds > 0 and one.cores_busy == pytest.approx(one.cpu_seconds / one.seconds)


def test_a_phase_that_comes_again_is_added_to_also_when_it_fails() -> None:
    meter = Meter()
    with pytest.raises(ValueError, match="wrong"), meter.phase("one"):
        first = spin(0.05)
        raise ValueError("wrong")
    with meter.phase("one"):
        second = spin(0.05)
    assert list(meter.phases) == ["one"]
    # exact: rounding keeps the order of sums and differences
    assert meter.phases["one"].seconds >= first + second


def test_the_time_before_the_meter_counts_as_the_start() -> None:
    meter = Meter.since_start()
    start = meter.phases[START]
    assert start.seconds > 0 and 0 < start.cpu_seconds <= meter.cpu_seconds
    assert meter.elapsed >= start.seconds - 1e-6 and meter.cores >= 1


@pytest.mark.parametrize("ignores", [False, True])
def test_a_process_that_ends_counts_once_whether_waited_for_or_not(ignores: bool) -> None:
    with started(WORKS.format(ignores=ignores)) as (process, read, send):
        clock = TreeClock(psutil.Process(process.pid))
        read()
        seen = clock.seconds()
        send()
        assert read() == "ended\n"
        assert 0.3 - ROUNDED <= seen <= clock.seconds() < 0.5


def test_a_process_whose_parent_ended_still_counts() -> None:
    with started(LEAVES) as (process, read, send):
        clock = TreeClock(psutil.Process(process.pid))
        left = int(read())
        try:
            seen = clock.seconds()
            send()
            assert read() == "ended\n"
            assert 0.3 - ROUNDED <= seen <= clock.seconds()
        finally:
            os.kill(left, signal.SIGKILL)
        while not pid_is_gone(left, time.time()):
            time.sleep(0.01)
        assert clock.seconds() >= seen


def test_during_a_phase_the_processes_are_looked_at() -> None:
    clock = TreeClock(look_seconds=0.01)
    meter = Meter(clock=clock)
    with meter.phase("one"), started(WORKS.format(ignores=True)) as (_, read, send):
        child, until = psutil.Process(int(read())), time.monotonic() + 60
        while (found := clock.known(child)) < 0.3 - ROUNDED and time.monotonic() < until:
            time.sleep(0.01)
        send()
        assert found and read() == "ended\n"
    assert meter.phases["one"].cpu_seconds >= 0.3 - ROUNDED
