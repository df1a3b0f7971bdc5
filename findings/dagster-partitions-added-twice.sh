#!/bin/sh
# dagster 1.13.27 with SQLite: `add_dynamic_partitions` skips keys that are there already, but looks and inserts in two steps without a lock.
#
# Seen: added one after the other by two instances, the same key is no fault. Where the second one's rows come between the first one's look
# and its insertion, the first raises sqlalchemy's IntegrityError, and none of its keys is added, the new ones neither. Two processes that
# list the same folder on one home meet this now and then.
# What helps: on that error look again and add what is missing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'dagster==1.13.27' 'sqlalchemy==2.0.44' 'setuptools==80.9.0'
mkdir "$folder/home"
: > "$folder/home/dagster.yaml"
cd "$folder"
DAGSTER_HOME="$folder/home" DAGSTER_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" -W ignore - <<'PY' 2>"$folder/log" || { tail -20 "$folder/log"; exit 1; }
import dagster as dg
from sqlalchemy import Engine, event
from sqlalchemy.exc import IntegrityError

with dg.DagsterInstance.get() as first, dg.DagsterInstance.get() as second:
    first.add_dynamic_partitions("shards", ["a"])
    second.add_dynamic_partitions("shards", ["a"])
    print("one after the other:", first.get_dynamic_partitions("shards"))
    waiting = [True]

    @event.listens_for(Engine, "after_cursor_execute")
    def in_between(connection, cursor, statement, *others):
        if waiting and statement.startswith("SELECT") and "dynamic_partitions" in statement:
            waiting.clear()
            second.add_dynamic_partitions("shards", ["b"])

    try:
        first.add_dynamic_partitions("shards", ["b", "c"])
        fault = None
    except IntegrityError as error:
        fault = error
    there = sorted(first.get_dynamic_partitions("shards"))
print("at the same time:", type(fault).__name__, there)
assert isinstance(fault, IntegrityError) and there == ["a", "b"]
print("as described")
PY
