"""What a session does for the process that is in it."""

from __future__ import annotations

import subprocess
import sys

WAITS = """\
import os, signal, threading, time
import ray
from got_core.ray_sessions import ray_session

class OfAStep(BaseException): ...

def interrupt(*_):
    raise OfAStep

@ray.remote
def wait():
    time.sleep(600)

signal.signal(signal.SIGINT, interrupt)
with ray_session(None, 1):
    for look in (ray.get, lambda one: ray.wait([one])):
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            look(wait.remote())
        except KeyboardInterrupt:
            print("interrupted")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as Ray Train leaves one behind
print(signal.getsignal(signal.SIGINT) is interrupt)
"""


def test_an_interrupt_is_not_kept_until_ray_has_an_answer() -> None:
    done = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["interrupted", "interrupted", "True"], done.stderr


ELSEWHERE = """\
import signal, threading
from got_core.ray_sessions import _plain_interrupts

def enter():
    with _plain_interrupts():
        print(signal.getsignal(signal.SIGINT) is before)

before = signal.getsignal(signal.SIGINT)
thread = threading.Thread(target=enter)
thread.start()
thread.join()
signal.signal(signal.SIGINT, signal.SIG_IGN)
with _plain_interrupts():
    print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""


def test_other_threads_and_ignored_interrupts_stay_as_they_are() -> None:
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["True", "True"], done.stderr
