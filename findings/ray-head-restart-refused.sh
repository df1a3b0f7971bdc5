#!/bin/sh
# ray 2.60.0: a head that was killed is not started again while a node of its cluster runs where its processes are seen.
#
# Seen: head and node on one machine, each with a `--temp-dir` of its own. The head's processes are killed and nothing listens on its port
# any more, yet the same `ray start --head` ends with "already running": the address left in the head's `ray_current_cluster` is found again
# in the command line of the node's raylet, and nothing is asked whether it answers. It holds until the node has given up.
# Two machines in containers with one process name space (`hostPID`, `shareProcessNamespace`) see each other in the same way.
# What helps: remove `ray_current_cluster` from the head's folder before it is started again; then it starts at once.
set -eu
folder=$(mktemp -d /tmp/XXXXXX)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'ray[default]==2.60.0' 'psutil==7.1.3' 'setuptools==80.9.0'
cd "$folder"
RAY_USAGE_STATS_ENABLED=0 timeout 400 "$folder/venv/bin/python" - <<'PY'
import os
import re
import secrets
import socket
import subprocess
import sys
import time

import psutil


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listens(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def start(name, *words):
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=0", f"--temp-dir={os.getcwd()}/{name}"]
    with open(f"{name}.log", "ab") as log:
        return subprocess.Popen([*command, *words], stdout=log, stderr=log)


def until(look):
    limit = time.monotonic() + 90
    while not look():
        assert time.monotonic() < limit
        time.sleep(0.2)


def kill(first):
    family = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
    for one in family:
        one.kill()
    first.wait()
    psutil.wait_procs(family, 30)


# Ray listens beyond loopback.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
port = free_port()
HEAD = ("h", "--head", f"--port={port}", "--include-dashboard=false")
started = [start(*HEAD)]
try:
    until(lambda: listens(port))
    until(lambda: os.path.exists("h/ray_current_cluster"))
    started.append(start("n", f"--address={open('h/ray_current_cluster').read().strip()}"))
    raylet = re.compile(r"raylet/raylet")
    until(lambda: any(raylet.search(" ".join(one.cmdline())) for one in psutil.Process(started[1].pid).children(recursive=True)))
    time.sleep(5)
    kill(started[0])
    assert not listens(port)
    again = start(*HEAD)
    status = again.wait()
    said = [line for line in open("h.log").read().splitlines() if "already running" in line][-1]
    print(f"nothing listens, the node {'runs' if started[1].poll() is None else 'has ended'}; the head ends with {status}: {said}")
    assert status != 0 and started[1].poll() is None
    os.remove("h/ray_current_cluster")
    began = time.monotonic()
    started[0] = start(*HEAD)
    until(lambda: listens(port))
    print(f"without the file it listens after {time.monotonic() - began:.0f} s")
    print("as described")
finally:
    for one in started:
        if one.poll() is None:
            kill(one)
PY
