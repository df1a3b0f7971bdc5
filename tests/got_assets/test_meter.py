"""Times of phases, and of the processes that work in them."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from got_assets.meter import START, Meter

SPIN = "import time\nwhile time.process_time() < {}: pass\n"


def spin(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_a_phase_counts_this_process_and_those_that_ended_in_it() -> None:
    meter = Meter()
    with meter.phase("here"):
        spin(0.1)
    with meter.phase("below"):
        subprocess.run([sys.executable, "-S", "-c", SPIN.format(0.3)], check=True)
    assert meter.phases["here"].cpu_seconds == pytest.approx(0.1, abs=0.09)
    assert meter.phases["below"].cpu_seconds >= 0.28
    assert meter.phases["here"].seconds >= 0.1
    for one in meter.phases.values():
        assert one.cores_busy == pytest.approx(one.cpu_seconds / one.seconds)


def test_a_phase_that_comes_again_is_added_to_also_when_it_fails() -> None:
    meter = Meter()
    with pytest.raises(ValueError, match="wrong"), meter.phase("one"):
        spin(0.05)
        raise ValueError("wrong")
    first = meter.phases["one"].seconds
    with meter.phase("one"):
        spin(0.05)
    assert list(meter.phases) == ["one"] and meter.phases["one"].seconds >= first + 0.05


def test_the_time_before_the_meter_counts_as_the_start() -> None:
    meter = Meter.since_start()
    start = meter.phases[START]
    assert start.seconds > 0 and 0 < start.cpu_seconds <= meter.cpu_seconds
    assert meter.elapsed >= start.seconds and meter.cores >= 1
