"""Which process something belongs to, also after it is gone, its number is used again, or on another machine.

Belongs here: naming a process and saying whether it still runs. Not here: what it works on (`leases`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_DEAD = ("Z", "X")
"""States of a process that has ended and was not yet waited for."""
_CLOCK_SECONDS = 5.0
"""By how much the time of a start may be wrong that is reckoned from that of the machine."""


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """A process, told apart from every other one that ever ran."""

    host: str
    """Name of the machine."""

    pid: int

    boot: str
    """Start of the machine and name space of process numbers: what `pid` counts in. "": not known."""

    started: int
    """Clock ticks from that start to the process's own. -1: not known."""

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProcessIdentity:
        """What `as_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            host=str(values["host"]),
            pid=int(values["pid"]),
            boot=str(values["boot"]),
            started=int(values["started"]),
        )


def this_process() -> ProcessIdentity:
    """The process that asks."""
    pid = os.getpid()
    found = _stat(pid)
    return ProcessIdentity(
        host=socket.gethostname(), pid=pid, boot=_boot(), started=found[1] if found else -1
    )


def is_gone(process: ProcessIdentity) -> bool | None:
    """Whether a process has ended; None where that cannot be told from here.

    It cannot of another machine's, of another container's, and of those from before the machine was last
    started: machines may have equal names.
    """
    if not process.boot or process.boot != _boot() or process.host != socket.gethostname():
        return None
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's: it is there
    found = _stat(process.pid)
    if found is None:
        return None
    state, started = found
    return state in _DEAD or (process.started >= 0 and started != process.started)


def pid_is_gone(pid: int, since: float) -> bool | None:
    """Whether the process of this machine that had a number at a time (seconds since 1970) has ended; None
    where the system does not say."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    found, started = _stat(pid), started_at(pid)
    if found is None or started is None:
        return None
    return found[0] in _DEAD or started > since + _CLOCK_SECONDS


def started_at(pid: int) -> float | None:
    """When a process of this machine was started, in seconds since 1970; None where there is none such, or
    the system does not say."""
    found = _stat(pid)
    with suppress(OSError, ValueError, StopIteration, IndexError):
        lines = Path("/proc/stat").read_text().splitlines()
        booted = float(next(line for line in lines if line.startswith("btime")).split()[1])
        return booted + found[1] / os.sysconf("SC_CLK_TCK") if found else None
    return None


def _stat(pid: int) -> tuple[str, int] | None:
    """State of a process and the clock ticks at its start (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name in parentheses may hold anything
    return (fields[0], int(fields[19])) if len(fields) > 19 else None


def _boot() -> str:
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
