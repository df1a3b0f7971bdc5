"""Processes told apart from those that used their number before, or use it on another machine."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

from got_core.processes import ProcessIdentity, is_gone, started_at, this_process

NAME = """
import json, sys
from got_core.processes import this_process
print(json.dumps(this_process().as_dict()), flush=True)
sys.stdin.read()
"""


def other_process() -> tuple[subprocess.Popen[str], ProcessIdentity]:
    import json

    process = subprocess.Popen(
        [sys.executable, "-c", NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, ProcessIdentity.from_dict(json.loads(process.stdout.readline()))


def test_a_process_is_gone_once_it_was_killed_and_before_anyone_has_waited_for_it() -> None:
    process, identity = other_process()
    assert identity.pid == process.pid and is_gone(identity) is False
    process.kill()
    deadline = time.monotonic() + 60
    while not is_gone(identity) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(identity) is True  # a zombie still has its number
    process.communicate()
    assert is_gone(identity) is True


def test_who_has_the_number_by_now_is_another_process() -> None:
    mine = this_process()
    assert is_gone(mine) is False
    assert is_gone(replace(mine, started=mine.started - 1)) is True


def test_of_another_machine_container_or_start_of_this_one_nothing_is_known() -> None:
    mine = replace(this_process(), pid=2**22 + 1)
    assert is_gone(mine) is True
    assert is_gone(replace(mine, host="another")) is None
    assert is_gone(replace(mine, boot="another start")) is None
    assert is_gone(replace(mine, boot="")) is None


def test_when_a_process_was_started() -> None:
    before = time.time()
    process, _ = other_process()
    started = started_at(process.pid)
    assert started is not None and before - 2 < started < time.time() + 2
    process.communicate()
    assert started_at(process.pid) is None
