#!/bin/sh
# torch 2.13.0: `destroy_process_group` does not end a group that a DDP model was made with, and the last such group outlives its deleted model.
#
# Seen with gloo, one process: the group has three threads. Without DDP they are gone once `destroy_process_group` returns. With a model in
# DistributedDataParallel they go on, though `is_initialized` says no, and go on after the model was deleted and collected, too. Only when a second group's DDP model
# comes and goes do three of then six threads end. So a process that leaves a group and joins the next one (another number of workers, another
# stage) keeps the sockets and threads of the one before, and the group ends at a moment that Python's reference counts decide: as the model's
# `Reducer` is freed, with Python's lock held, waiting for threads that may want that lock. A training that hung for half an hour had
# stopped there.
# What helps: one process for each group; otherwise hold a reference to every group until the process ends.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'torch==2.13.0' 'numpy==2.3.5'
cat > "$folder/groups.py" <<'PY'
import gc
import os
import sys
import time

from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


def threads():
    """How many threads of any group this process has, once it is quiet."""
    time.sleep(1)
    names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    return sum("gloo" in name for name in names)


def group(number, wrapped):
    """Threads with a group and a model, after the group was left, and after the model was deleted."""
    distributed.init_process_group("gloo", f"file://{sys.argv[1]}/meeting-{number}", rank=0, world_size=1)
    model = nn.Linear(2, 2)
    if wrapped:
        model = DistributedDataParallel(model)
    found = [threads()]
    distributed.destroy_process_group()
    assert not distributed.is_initialized()
    found.append(threads())
    del model
    gc.collect()
    return (*found, threads())


seen = [(wrapped, group(number, wrapped)) for number, wrapped in enumerate((False, True, True, False))]
for wrapped, found in seen:
    print("DDP:  " if wrapped else "plain:", "with the group %d, left %d, model deleted %d" % found)
assert [found for _, found in seen] == [(3, 0, 0), (3, 3, 3), (6, 6, 3), (6, 3, 3)]
print("as described")
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/groups.py" "$folder"
