#!/bin/sh
# dagster 1.13.27: with a retry policy on the step, SIGINT does not end the run: the step starts again, and the run ends as SUCCESS.
#
# Seen with runs in process: an op or asset with `retry_policy=RetryPolicy(max_retries=2)` whose process gets SIGINT (Ctrl-C). Dagster turns the interrupt into a
# request for a retry (STEP_UP_FOR_RETRY, STEP_RESTARTED), so that three interrupts are needed for a run to end, and work that was
# stopped on purpose is done, and paid for, again. A step that takes the interrupt once succeeds at its second attempt and nothing in
# the run's status says so. Without a policy the first interrupt ends the run. `Failure(allow_retries=False)` is the same for errors
# only: raised by the step itself in place of the interrupt, it does end the run.
# What helps: catch KeyboardInterrupt and DagsterExecutionInterruptedError inside such a step and raise `Failure(allow_retries=False)` from it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'dagster==1.13.27'
DAGSTER_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - <<'PY'
import logging
import os
import signal
import time

import dagster as dg

logging.disable(logging.CRITICAL)


def run(policy, interrupts, caught=False):
    """Runs one step that sends SIGINT to its own process at its first attempts; returns attempts, status and step events."""
    attempts = []

    def work():
        attempts.append(len(attempts))
        if len(attempts) <= interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    @dg.asset(retry_policy=policy)
    def pictures():
        try:
            work()
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError) as stop:
            if not caught:
                raise
            raise dg.Failure("interrupted", allow_retries=False) from stop

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([pictures], instance=instance, raise_on_error=False)
        status = instance.get_run_by_id(result.run_id).status.value
        kinds = [entry.dagster_event.event_type_value for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    return len(attempts), status, [kind for kind in kinds if kind in ("STEP_UP_FOR_RETRY", "STEP_RESTARTED", "STEP_FAILURE")]


RETRY = ["STEP_UP_FOR_RETRY", "STEP_RESTARTED"]
twice = dg.RetryPolicy(max_retries=2)
for label, arguments, expected in (
    ("no policy, one interrupt", (None, 1), (1, "FAILURE", ["STEP_FAILURE"])),
    ("policy, one interrupt", (twice, 1), (2, "SUCCESS", RETRY)),
    ("policy, always interrupted", (twice, 9), (3, "FAILURE", [*RETRY, *RETRY, "STEP_FAILURE"])),
    ("policy, Failure from the interrupt", (twice, 9, True), (1, "FAILURE", ["STEP_FAILURE"])),
):
    attempts, status, events = run(*arguments)
    print(f"{label}: {attempts} attempts, {status}, {events}")
    assert (attempts, status, events) == expected
print("as described")
PY
