"""`got ui`: Dagster's web page with its daemon, and MLflow's, on this machine only. Ctrl-C stops both.

Belongs here: starting and stopping the two servers. Does not belong here: any of what they show.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import dagster as dg

from got_assets.home import prepare_dagster_home
from got_assets.orphans import fail_orphans
from got_assets.project import INSTANCE, PROJECT, ROOT, Project
from got_core.filesystems import StoreUnavailableError
from got_core.sqlite_urls import sqlite_path

HOST = "127.0.0.1"
DAGSTER_PORT, MLFLOW_PORT = 3000, 5000


def free_port(preferred: int) -> int:
    """The preferred port of 127.0.0.1, or one that is free if something listens there."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError("no free port on 127.0.0.1")


def commands(project: Project, dagster_port: int, mlflow_port: int) -> dict[str, list[str]]:
    """Command lines of both servers; MLflow's is left out where a tracking server runs elsewhere."""
    bin_dir = Path(sys.executable).parent
    workspace = str(INSTANCE / "workspace.yaml")
    found = {
        "Dagster": [
            *(str(bin_dir / "dagster"), "dev", "-w", workspace, "-h", HOST, "-p", str(dagster_port)),
            *("--log-level", "warning"),
        ]
    }
    uri = project.settings.tracking_uri
    if not uri.startswith(("http://", "https://")):
        found["MLflow"] = [
            *(str(bin_dir / "mlflow"), "ui", "--backend-store-uri", uri, "--host", HOST),
            *("--port", str(mlflow_port), "--workers", "1"),
        ]
    return found


def prepare_tracking(project: Project) -> None:
    """Make the local tracking database before a server opens it, which would make it piece by piece."""
    if sqlite_path(project.settings.tracking_uri) is not None:
        from got_core.registry.tracking import connect

        connect(project.settings.tracking_uri)


def answers(url: str, seconds: float) -> bool:
    """Whether something answers at the address within the time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return True
        except OSError:
            time.sleep(0.5)
    return False


def main() -> int:
    """Start both, print their addresses when they answer, and wait."""
    try:
        prepare_dagster_home(PROJECT)
        prepare_tracking(PROJECT)
        with dg.DagsterInstance.get() as instance:
            fail_orphans(instance, PROJECT)
    except (OSError, ValueError, StoreUnavailableError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    ports = {"Dagster": free_port(DAGSTER_PORT), "MLflow": free_port(MLFLOW_PORT)}
    lines = commands(PROJECT, ports["Dagster"], ports["MLflow"])
    logs = PROJECT.settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    servers = {name: _start(line, logs / f"{name.lower()}.log") for name, line in lines.items()}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        for name in servers:
            url = f"http://{HOST}:{ports[name]}"
            state = (
                url if answers(url, 90) else f"does not answer at {url}; see {logs / f'{name.lower()}.log'}"
            )
            print(f"{name:<8} {state}", flush=True)
        if "MLflow" not in servers:
            print(f"MLflow   {PROJECT.settings.tracking_uri}", flush=True)
        print("Ctrl-C stops", flush=True)
        return _wait(servers, logs)
    finally:
        for process in servers.values():
            _stop(process)


def _start(line: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        # A session of its own: Ctrl-C reaches the server through _stop only, so it can end its children.
        return subprocess.Popen(
            line,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            # Evaluation jobs of MLflow are not used here; their consumers would be nine more processes.
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )


def _wait(servers: dict[str, subprocess.Popen[bytes]], logs: Path) -> int:
    while True:
        for name, process in servers.items():
            if process.poll() is not None:
                print(
                    f"{name} ended with {process.returncode}; see {logs / f'{name.lower()}.log'}", flush=True
                )
                return 1
        time.sleep(1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server and its children to end, more and more firmly."""
    for number, seconds in ((signal.SIGINT, 10), (signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return
