"""Servers of a model in processes of their own, and clients that ask them at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300.0
"""Seconds for a server to answer."""


def post(url: str, body: Any) -> tuple[int, Any]:
    """Status and JSON of an answer; `body`: JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


@contextmanager
def process(command: list[str], ready: str, **environment: str) -> Iterator[tuple[subprocess.Popen, float]]:
    """A server, and the seconds until `ready` was answered; it is ended afterwards."""
    started = time.perf_counter()
    server = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not answers(ready):
            if server.poll() is not None or time.perf_counter() - started > PATIENCE:
                raise RuntimeError(f"{' '.join(command)} does not answer at {ready}")
            time.sleep(0.1)
        yield server, time.perf_counter() - started
    finally:
        server.terminate()
        server.wait(PATIENCE)


def answers(url: str) -> bool:
    """Whether a server answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def got_serve(model: str, port: int, **settings: str) -> Any:
    """`got serve` of a model."""
    command = [sys.executable, "-m", "got_assets.cli", "serve", "--model", model, "--port", str(port)]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return process(command, f"http://127.0.0.1:{port}/ready", PYTHONPATH=paths, **settings)


def mlflow_serve(entry: Path, port: int, code: Path) -> Any:
    """MLflow's server of a saved entry, with the library of a checkout."""
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "-m", str(entry), "-p", str(port)),
        *("--env-manager", "local", "--timeout", "600"),
    ]
    path = f"{Path(sys.executable).resolve().parent}{os.pathsep}{Path(sys.executable).parent}"
    return process(
        command,
        f"http://127.0.0.1:{port}/ping",
        PYTHONPATH=str(code),
        PATH=f"{path}{os.pathsep}{os.environ['PATH']}",
    )


def per_second(ask: Callable[[int], object], requests: int, clients: int) -> float:
    """Requests a second of so many clients at once."""
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))  # each has asked once
        started = time.perf_counter()
        list(pool.map(ask, range(requests)))
        return requests / (time.perf_counter() - started)


def resident(pid: int) -> float:
    """MiB of memory of a process."""
    import psutil

    return psutil.Process(pid).memory_info().rss / 2**20
