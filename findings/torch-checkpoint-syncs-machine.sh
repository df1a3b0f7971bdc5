#!/bin/sh
# torch 2.13.0 with fsspec 2026.9.0: a distributed checkpoint that is written to a remote store flushes every disk of the machine.
#
# Seen: behind each file the writer calls `os.fsync` where the stream has a file descriptor, and `os.sync` where it has none, as streams of
# fsspec to memory or to a bucket. `os.sync` waits for the unwritten data of all processes on all disks, though none of it belongs to the
# checkpoint: on a busy node a checkpoint takes as long as the slowest disk. No message says so.
# What helps: `sync_files=False` for the writer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'torch==2.13.0' 'numpy==2.3.5' 'fsspec==2026.9.0'
"$folder/venv/bin/python" -W ignore - <<'PY'
import os

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

calls = []
os.sync = lambda: calls.append("sync")


def saved(name, **options):
    calls.clear()
    dcp.save({"weight": torch.zeros(8)}, storage_writer=FsspecWriter(f"memory://{name}", **options), no_dist=True)
    return len(calls)


usual, without = saved("usual"), saved("without", sync_files=False)
print(f"a tensor of 32 bytes, written to memory: os.sync is called {usual} times, with sync_files=False {without} times")
assert usual >= 1 and without == 0
print("as described")
PY
