"""Leases between real processes: one at a time, taken over from those that died or stood still."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from got_core.conditional_files import ConditionalFiles, conditional_files
from got_core.leases import Lease, LeaseConfig, LeaseHeld, LeaseLost, Leases, path_of
from got_core.store_faults import StoreUnavailableError

ROOT = Path(__file__).parents[2]
QUICK = LeaseConfig(beat_seconds=0.2, expiry_seconds=3, look_seconds=0.05)
HOLD = """
import json, os, sys, time
from pathlib import Path
from got_core.conditional_files import conditional_files
from got_core.leases import LeaseConfig, Leases
files = conditional_files(sys.argv[1], json.loads(sys.argv[2]), Path("never"))
config = LeaseConfig(beat_seconds=0.2, expiry_seconds=3, look_seconds=0.05)
leases = Leases(files, "got run", config, notice=lambda line: print(line, flush=True))
with leases.held("images-00000"):
    print("held", flush=True)
    sys.stdin.read()
"""
WORK = """
import json, sys, time
from pathlib import Path
from got_core.conditional_files import conditional_files
from got_core.leases import LeaseConfig, Leases
files = conditional_files(sys.argv[1], json.loads(sys.argv[2]), Path("never"))
config = LeaseConfig(beat_seconds=0.5, expiry_seconds=20, look_seconds=0.02)
marker = Path(sys.argv[3])
for _ in range(6):
    with Leases(files, "got run", config).held("images-00000") as leases:
        marker.mkdir()  # fails where somebody else is in here
        time.sleep(0.02)
        leases[0].check()
        marker.rmdir()
"""


@pytest.fixture
def files(place: tuple[str, dict[str, Any]], tmp_path: Path) -> ConditionalFiles:
    return conditional_files(*place, tmp_path / "fallback")


@pytest.fixture
def local(tmp_path: Path) -> ConditionalFiles:
    return conditional_files(str(tmp_path / "storage"), {}, tmp_path)


def start(program: str, place: tuple[str, dict[str, Any]], *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, place[0], json.dumps(place[1]), *more],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def holding(place: tuple[str, dict[str, Any]]) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease until its input ends."""
    process = start(HOLD, place)
    assert process.stdout and process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe
            pipe.close()


def test_one_process_at_a_time(place: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    workers = [start(WORK, place, str(tmp_path / "marker")) for _ in range(4)]
    for worker in workers:
        worker.communicate(timeout=600)
    assert [worker.returncode for worker in workers] == [0] * 4


def test_who_waits_names_who_works_and_goes_on_afterwards(
    files: ConditionalFiles, place: tuple[str, dict[str, Any]]
) -> None:
    lines: list[str] = []
    with holding(place) as process:
        with pytest.raises(LeaseHeld, match=f"images-00000 is being worked on by got run on .*{process.pid}"):
            Leases(files, "other", QUICK).take("images-00000", wait=False)
        threading.Timer(1.0, lambda: process.stdin and process.stdin.close()).start()
        with Leases(files, "other", QUICK, notice=lines.append).held("images-00000"):
            assert process.stdin and process.stdin.closed, "not before"
    assert len(lines) == 1 and f"process {process.pid}, since " in lines[0]
    Leases(files, "third", QUICK).take("images-00000", wait=False).release()


def test_of_a_process_that_was_killed_it_is_taken_at_once(
    files: ConditionalFiles, place: tuple[str, dict[str, Any]]
) -> None:
    with holding(place) as process:
        process.kill()
        process.wait()
        Leases(files, "other", LeaseConfig()).take("images-00000", wait=False).release()


def test_of_another_machine_it_is_taken_when_its_counter_has_stood_still(
    local: ConditionalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(monkeypatch)
    with holding((str(tmp_path / "storage"), {})) as process:
        with pytest.raises(LeaseHeld):
            Leases(local, "other", QUICK).take("images-00000", wait=False)
        waited: list[float] = []
        taker = threading.Thread(target=take_and_time, args=(local, waited))
        taker.start()
        time.sleep(2 * QUICK.expiry_seconds)
        assert not waited, "its holder is alive, however long it takes"
        killed = time.monotonic()
        process.kill()
        taker.join(60)
    assert waited and waited[0] - killed >= QUICK.expiry_seconds - QUICK.beat_seconds - 0.1


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of other processes, as if they were on another machine."""
    monkeypatch.setattr("got_core.leases.is_gone", lambda process: None)


def take_and_time(files: ConditionalFiles, taken: list[float]) -> None:
    with Leases(files, "other", QUICK).held("images-00000"):
        taken.append(time.monotonic())


def test_clocks_are_not_compared(local: ConditionalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder whose clock is years behind or ahead keeps its lease as long as it gives signs of life."""
    elsewhere(monkeypatch)
    with Leases(local, "got run", QUICK).held("images-00000") as [lease]:
        lease.holder = replace(lease.holder, since="1970-01-01T00:00:00+00:00")
        with pytest.raises(TimeoutError):
            expires(local, seconds=3 * QUICK.expiry_seconds)
        lease.check()


def expires(files: ConditionalFiles, seconds: float) -> None:
    """Wait until another process could take the lease. Raises TimeoutError."""
    taken: list[float] = []
    deadline = time.monotonic() + seconds
    threading.Thread(target=take_and_time, args=(files, taken), daemon=True).start()
    while not taken:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def test_a_process_that_stood_still_is_stopped_before_it_writes(
    local: ConditionalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(monkeypatch)
    with holding((str(tmp_path / "storage"), {})) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with Leases(local, "other", QUICK).held("images-00000"):
            os.kill(process.pid, signal.SIGCONT)
            assert process.stdout
            line = process.stdout.readline()
            assert "images-00000 was taken over by other on" in line and "stood still" in line, line
            assert process.wait(60) != 0  # interrupted


def test_a_lost_lease_raises_at_the_next_check(
    local: ConditionalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(monkeypatch)
    lost: list[str] = []
    first = Leases(local, "first", QUICK, lost=lost.append).take("images-00000")
    monkeypatch.setattr(first, "_renew", lambda: None)  # no signs of life: the thread hangs
    second = Leases(local, "second", QUICK).take("images-00000")
    monkeypatch.undo()
    with pytest.raises(LeaseLost, match="taken over by second"):
        first.check()
    first.release()
    second.check()
    assert lease_is_held(local, second)
    second.release()
    assert not lease_is_held(local, second)


def lease_is_held(files: ConditionalFiles, lease: Lease) -> bool:
    version = files.read(path_of(lease.name))
    return version is not None and lease.holder.id.encode() in version.data


def test_a_store_that_is_away_for_a_while_costs_no_lease(local: ConditionalFiles) -> None:
    away = Away(local)
    with Leases(away, "first", QUICK).held("images-00000") as [lease]:
        away.down = True
        time.sleep(QUICK.expiry_seconds)
        with pytest.raises(LeaseLost, match="out of reach"):
            lease.check()
        away.down = False
        lease.check()


class Away:
    """Files of a store that can be out of reach."""

    note, down = "", False

    def __init__(self, files: ConditionalFiles) -> None:
        self._files = files

    def read(self, name: str) -> Any:
        if self.down:
            raise StoreUnavailableError("down")
        return self._files.read(name)

    def write(self, name: str, data: bytes, expected: Any) -> Any:
        if self.down:
            raise StoreUnavailableError("down")
        return self._files.write(name, data, expected)


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"holder": 3}', b'{"holder": {"process": {}}}'])
def test_a_damaged_lease_is_waited_for_and_then_taken(local: ConditionalFiles, data: bytes) -> None:
    assert local.write(path_of("images-00000"), data, None)
    with pytest.raises(LeaseHeld, match="left no name"):
        Leases(local, "other", QUICK).take("images-00000", wait=False)
    Leases(local, "other", QUICK).take("images-00000").release()


def test_a_lease_whose_file_was_deleted_is_written_again(local: ConditionalFiles, tmp_path: Path) -> None:
    with Leases(local, "first", QUICK).held("images-00000") as [lease]:
        (tmp_path / "storage" / path_of("images-00000")).unlink()
        until(lambda: lease_is_held(local, lease))
        lease.check()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["../images", "a/b", "..", "a b?*[1]", "ü"])
def test_a_lease_lies_in_its_folder_whatever_its_name(
    local: ConditionalFiles, tmp_path: Path, name: str
) -> None:
    with Leases(local, "first", QUICK).held(name):
        assert len([*(tmp_path / "storage" / "leases").iterdir()]) == 1
        with pytest.raises(LeaseHeld):
            Leases(local, "second", QUICK).take(name, wait=False)
    assert [path.name for path in tmp_path.iterdir()] == ["storage"]


@pytest.mark.parametrize("times", [{"beat_seconds": 0}, {"beat_seconds": 30}, {"look_seconds": 0}])
def test_times_that_cannot_work_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="LeaseConfig"):
        LeaseConfig(**times)


def test_a_sign_of_life_is_one_request(s3_server: Any, tmp_path: Path) -> None:
    options = {"endpoint_url": s3_server.url}
    files = conditional_files(f"s3://{s3_server.bucket}/x", options, tmp_path)
    counted = Counted(files)
    with Leases(counted, "first", QUICK).held("images-00000"):
        until(lambda: counted.writes >= 4)
    assert counted.reads == 1, "one request to take it, one for each sign of life, one to let go of it"


class Counted:
    note = ""

    def __init__(self, files: ConditionalFiles) -> None:
        self._files, self.reads, self.writes = files, 0, 0

    def read(self, name: str) -> Any:
        self.reads += 1
        return self._files.read(name)

    def write(self, name: str, data: bytes, expected: Any) -> Any:
        self.writes += 1
        return self._files.write(name, data, expected)
