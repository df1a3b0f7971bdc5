#!/bin/sh
# torch 2.13.0: with a limit on waiting, a DataLoader whose workers come from a fork server notices a killed one only when the limit is over.
#
# Seen: a worker of `DataLoader(multiprocessing_context="forkserver", timeout=20)` that is killed before it answers is reported after 20
# seconds of waiting; the same with `timeout=0`, which means no limit at all, after at most 5; and with "fork" and any limit at once. Without a limit
# the loader looks every 5 seconds whether its workers live; with one it waits for the whole of it first. What makes up for that
# usually, a signal of the ended child, goes to the fork server, not to the process that waits. So a generous limit, set against stores that
# hang, makes every worker that lacked memory cost that long.
# What helps: a limit of a few seconds, and asking the same iterator again while workers live: it goes on where it was.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'torch==2.13.0' 'numpy==2.3.5' 'psutil==7.1.3'
cat > "$folder/watch.py" <<'PY'
import os
import signal
import time

import psutil
from torch.utils.data import DataLoader, Dataset

LIMIT, LOOK = 20, 5
BEGUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "begun")


class Slow(Dataset):
    """An item is not there before the worker is killed."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        with open(BEGUN + ".part", "w") as file:
            file.write(str(os.getpid()))
        os.rename(BEGUN + ".part", BEGUN)
        time.sleep(600)


def noticed(context, limit):
    """Seconds from the kill to the error, and the error."""
    loader = DataLoader(Slow(), batch_size=None, num_workers=1, multiprocessing_context=context, timeout=limit)
    try:
        batches = iter(loader)
        while not os.path.exists(BEGUN):
            time.sleep(0.1)
        worker = psutil.Process(int(open(BEGUN).read()))
        os.unlink(BEGUN)
        started = time.monotonic()
        os.kill(worker.pid, signal.SIGKILL)
        time.sleep(2)  # the signal arrives here; within the loader's first step its error may be caught and logged
        next(batches)
    except RuntimeError as error:
        return time.monotonic() - started, str(error).splitlines()[0]


if __name__ == "__main__":
    found = {}
    for context, limit in (("fork", LIMIT), ("forkserver", 0), ("forkserver", LIMIT)):
        seconds, message = noticed(context, limit)
        found[context, limit] = seconds
        print(f"{context}, timeout={limit}: after {seconds:.1f} s: {message}")
    assert found["fork", LIMIT] < LOOK
    assert found["forkserver", 0] < LIMIT - LOOK
    assert found["forkserver", LIMIT] > LIMIT - 1
    print("as described")
PY
"$folder/venv/bin/python" -W ignore "$folder/watch.py"
