#!/bin/sh
# dagster 1.13.27: a run that was marked as canceled or failed while its step works goes on, and its end overwrites the mark: SUCCESS.
#
# Seen with runs in process: `instance.report_run_canceled(run)` and `report_run_failed(run)`, by which a program (or somebody who gives a run up for dead) ends
# a run from outside, write an event and the status, nothing more. The process does not look at them: the step ends, later steps
# start, assets are materialized, and the run's last event sets the status to SUCCESS, whatever was there. A status that counts as
# finished (`is_finished`) is therefore not final: whoever starts a replacement once it is seen has two writers, and afterwards two runs
# that succeeded. Only the event log still holds RUN_CANCELED (stored as PIPELINE_CANCELED) before the success. No warning.
# What helps: stop the process first and report afterwards; steps that look at their own run's status before they write; a lease.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'dagster==1.13.27'
DAGSTER_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - <<'PY'
import logging

import dagster as dg

logging.disable(logging.CRITICAL)


def run(report):
    """Marks a run as ended while its first step works; returns the status then, the steps that ran later, and the run's end."""
    seen = []

    @dg.asset
    def pictures(context):
        report(context.instance, context.run)
        marked = context.instance.get_run_by_id(context.run.run_id)
        seen.append((marked.status.value, marked.is_finished))

    @dg.asset(deps=[pictures])
    def captions():
        seen.append("captions")

    with dg.DagsterInstance.ephemeral() as instance:
        run_id = dg.materialize([pictures, captions], instance=instance).run_id
        kinds = [entry.dagster_event.event_type_value for entry in instance.all_logs(run_id) if entry.dagster_event]
        made = instance.get_latest_materialization_event(captions.key) is not None
        return seen, instance.get_run_by_id(run_id).status.value, [k for k in kinds if k.startswith("PIPELINE_")], made


for name, report in (
    ("CANCELED", lambda instance, run: instance.report_run_canceled(run)),
    ("FAILURE", lambda instance, run: instance.report_run_failed(run)),
):
    seen, status, events, made = run(report)
    print(f"in the first step: {seen[0]}; then ran: {seen[1:]}; materialized: {made}; the run's end: {status}; events: {events}")
    assert seen == [(name, True), "captions"] and made
    assert status == "SUCCESS" and events == ["PIPELINE_START", f"PIPELINE_{name}", "PIPELINE_SUCCESS"]
print("as described")
PY
