#!/bin/sh
# ray 2.60.0, dagster 1.13.27: in a step that waits for Ray, Ctrl-C takes effect when Ray has the answer, and then as a SystemError.
#
# Seen: `ray.get` and `ray.wait` look for signals while they wait, also with a timeout, but return early for KeyboardInterrupt alone. What any other exception of a
# SIGINT handler does is stay set in the thread until the call returns by itself; Python then finds a result with an exception
# set and raises SystemError, whose cause is that exception. Dagster is a program with such a handler: in a step
# SIGINT raises DagsterExecutionInterruptedError. A run that is interrupted or terminated while its step waits for a task of
# an hour goes on for that hour, and then its step has an error to handle that is no interrupt. Outside of a step the same wait ends
# at once. `ref.future().result()` ends at once in both.
# What helps: a handler that raises KeyboardInterrupt around what waits for Ray (Dagster takes it as an interrupt too), or waiting for a future.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'ray==2.60.0' 'dagster==1.13.27'
cat > "$folder/waits.py" <<'PY'
import logging
import os
import signal
import threading
import time

import dagster as dg
import ray

TASK, AFTER = 12, 2  # seconds that a task takes, and after which SIGINT comes
logging.disable(logging.CRITICAL)


@ray.remote(num_cpus=0)
def task():
    time.sleep(TASK)


def waited(wait):
    """Seconds from SIGINT to the end of waiting for a task, and the error."""
    reference = task.remote()
    threading.Timer(AFTER, os.kill, (os.getpid(), signal.SIGINT)).start()
    sent = time.monotonic() + AFTER
    try:
        wait(reference)
        found = None
    except BaseException as error:
        found = error
    seconds = time.monotonic() - sent
    return seconds, type(found).__name__, type(found.__cause__).__name__


def in_step(wait):
    """The same in a step."""
    seen = []

    @dg.op
    def step():
        seen.append(waited(wait))

    dg.GraphDefinition("steps", node_defs=[step]).execute_in_process()
    return seen[0]


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
WAYS = {
    "get": ray.get,
    "get with a timeout": lambda one: ray.get(one, timeout=60),
    "wait": lambda one: ray.wait([one]),
    "future": lambda one: one.future().result(),
}
for name, wait in WAYS.items():
    plain, step = waited(wait), in_step(wait)
    print(f"{name}: after {plain[0]:.0f} s {plain[1]}; in a step: after {step[0]:.0f} s {step[1]} (cause: {step[2]})", flush=True)
    assert plain[0] < TASK / 2 and plain[1] == "KeyboardInterrupt"
    if name == "future":
        assert step[0] < TASK / 2 and step[1] == "DagsterExecutionInterruptedError"
    else:
        assert step[0] > TASK - AFTER - 2 and step[1:] == ("SystemError", "DagsterExecutionInterruptedError")
print("as described")
PY
DAGSTER_DISABLE_TELEMETRY=1 RAY_USAGE_STATS_ENABLED=0 "$folder/venv/bin/python" -W ignore "$folder/waits.py"
