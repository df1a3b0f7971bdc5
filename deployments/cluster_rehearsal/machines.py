"""A server on a machine of the rehearsal: started, looked after, killed and started again.

Belongs here: processes and their files. Not here: which servers there are (`cluster`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deployments.cluster_rehearsal.network import Address

TAIL = 30
"""Last lines of a log that go with an error."""
GONE_SECONDS = 30.0
"""In which processes that were killed are gone."""


class ServerError(RuntimeError):
    """A server that did not start, with the end of its log."""


@dataclass(kw_only=True)
class Server:
    """One server: its machine, its command line, and when it counts as started."""

    name: str
    address: Address
    command: list[str]
    folder: Path
    """Its own: working directory, home and log."""
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    seconds: float = 300.0
    """In which it has to be ready."""
    user: str | None = None
    """Who it runs as; None: as the rehearsal."""
    without: Path | None = None
    """A file that is removed before each start."""
    polite: signal.Signals = signal.SIGTERM
    """What asks it to end."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / f"{self.name}.log"

    def start(self) -> float:
        """Start it and wait until it is ready; in how many seconds. Raises ServerError."""
        began = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.without is not None:
            self.without.unlink(missing_ok=True)
        command = [*(("runuser", "-u", self.user, "--") if self.user else ()), *self.command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.address.inside(command), cwd=self.folder, env=dict(self.environment),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        while not self.ready():
            if self._process.poll() is not None:
                raise ServerError(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")
            if time.monotonic() - began > self.seconds:
                raise ServerError(f"{self.name} is not ready within {self.seconds:g} s:\n{self.tail()}")
            time.sleep(0.2)
        return time.monotonic() - began

    def wait(self) -> int:
        """Wait for its end; its exit status. What it started may be there still."""
        assert self._process is not None
        return self._process.wait()

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL:])

    def kill(self) -> None:
        """End it with all its processes, as a power cut does."""
        self._end()

    def stop(self) -> None:
        """Ask it to end, then end it with all its processes."""
        self._end(self.polite, 20.0)

    def is_alive(self) -> bool:
        """Whether its first process is there."""
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """Its first process and all that came from it; none where it has ended."""
        process = self._process
        if process is None or process.poll() is not None:
            return []
        return [psutil.Process(process.pid), *_family(process.pid)]

    def _end(self, asked: signal.Signals | None = None, seconds: float = 0.0) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        family = _family(process.pid)
        groups = _groups([process.pid, *(one.pid for one in family)])
        if asked is not None:
            _send(groups, asked)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        _send(groups, signal.SIGKILL)
        process.wait()
        # Also what it had started: until then its ports are taken.
        psutil.wait_procs(family, GONE_SECONDS)


def _send(groups: set[int], number: signal.Signals) -> None:
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, number)


def _family(first: int) -> list[psutil.Process]:
    """All that came from a process."""
    try:
        return psutil.Process(first).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _groups(processes: list[int]) -> set[int]:
    """Their process groups: some servers make groups of their own."""
    groups = set()
    for process in processes:
        with suppress(ProcessLookupError):
            groups.add(os.getpgid(process))
    return groups - {os.getpgid(0)}


def answers(url: str, *, statuses: tuple[int, ...] = (200,)) -> bool:
    """Whether a GET is answered so."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return answer.status in statuses
    except urllib.error.HTTPError as error:
        return error.code in statuses
    except OSError:
        return False


def listens(host: str, port: int) -> bool:
    """Whether something takes connections."""
    import socket

    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((host, port)) == 0
