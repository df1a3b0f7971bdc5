#!/bin/sh
# dagster 1.13.27 with SQLite (what a DAGSTER_HOME without other storage has): each event of a run opens the run's file anew and closes it as
# its last user, so that SQLite copies the write-ahead log into the file and removes it after every single event.
#
# Seen: a run of one asset that logs 200 lines opens SQLite files 245 times, and between two lines no `-wal` is left beside the run's
# file, though the file is in WAL mode, whose point is that the log is copied rarely. Each copy waits for the disk. With one idle
# connection to the same file held open by anyone, as many are opened, and the log stays there: nothing is copied meanwhile.
# What helps: hold a connection to the files that are written to (and, where the newest events may go missing when the power fails,
# `PRAGMA synchronous=NORMAL` on those that Dagster opens); or PostgreSQL.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'dagster==1.13.27' 'setuptools==80.9.0'
mkdir "$folder/home"
: > "$folder/home/dagster.yaml"
cd "$folder"
DAGSTER_HOME="$folder/home" DAGSTER_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" -W ignore - <<'PY' 2>"$folder/log" || { tail -20 "$folder/log"; exit 1; }
import os
import sqlite3
import sys
from pathlib import Path

import dagster as dg

LINES = 200
opened, logs_left = [0], []
held: list[sqlite3.Connection] = []
sys.addaudithook(lambda name, arguments: opened.__setitem__(0, opened[0] + (name == "sqlite3.connect")))


@dg.asset
def talkative(context: dg.AssetExecutionContext) -> None:
    runs = Path(os.environ["DAGSTER_HOME"]) / "history" / "runs"
    path = runs / f"{context.run.run_id}.db"
    if hold:
        held.append(sqlite3.connect(path, check_same_thread=False))
        held[0].execute("PRAGMA schema_version").fetchone()
    for number in range(LINES):
        context.log.info(f"line {number}")
        logs_left.append(path.with_name(path.name + "-wal").exists())
    with sqlite3.connect(path) as connection:
        modes.append(connection.execute("PRAGMA journal_mode").fetchone()[0])


modes: list[str] = []
found = []
with dg.DagsterInstance.get() as instance:
    for hold in (False, True):
        opened[0] = 0
        logs_left.clear()
        assert dg.materialize([talkative], instance=instance).success
        found.append((opened[0], sum(logs_left)))
print(f"journal modes: {modes}")
for (count, left), who in zip(found, ("nobody", "one idle connection"), strict=True):
    print(f"{who} keeps the file: {count} connections, the log is there after {left} of {LINES} lines")
assert modes == ["wal", "wal"]
assert min(count for count, _ in found) > LINES
assert found[0][1] == 0 and found[1][1] == LINES
print("as described")
PY
