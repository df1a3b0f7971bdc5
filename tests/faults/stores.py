"""S3 servers to put behind a fault proxy.

Belongs here: starting, killing and restarting them. Not here: faults (`proxy`).
"""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.ports import free_port

MISSING = "needs the package localbucket (pip install localbucket), an S3 server that keeps objects on disk"
HAS_DURABLE_STORE = importlib.util.find_spec("localbucket") is not None
_START_SECONDS = 20.0


class DurableStore:
    """An S3 server in a process of its own that keeps its objects on disk: localbucket.

    It does not know bulk deletes: put a `FaultProxy(store.url, split_bulk_delete=True)` before it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> DurableStore:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, at the same port and with the same objects as before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "localbucket", str(self._folder), "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"localbucket did not start on port {self.port}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.2)
        return one.connect_ex(("127.0.0.1", port)) == 0
