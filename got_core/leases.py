"""Leases: of the processes that share a storage, on whatever machines, one at a time does a piece of work.

Belongs here: taking a lease, waiting for it, keeping it, noticing that it was lost. Not here: what is leased
(`got_assets.leasing`).

A lease is a small file with its holder and a counter, which the holder raises every few seconds. Clocks of
two machines are never compared: a lease whose file has not changed for `LeaseConfig.expiry_seconds` of the
clock of who looks at it may be taken over, and one whose holder is known to have ended may at once.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from got_core.conditional_files import ConditionalFiles, Version
from got_core.processes import ProcessIdentity, is_gone, this_process
from got_core.store_faults import StoreUnavailableError

_RELEASE_SECONDS = 5.0
_VALID = 0.75
"""Share of the expiry for which a holder that could not renew its lease still writes."""


@dataclass(frozen=True, kw_only=True)
class LeaseConfig:
    """Times of a lease, in seconds."""

    beat_seconds: float = 10.0
    """Between two signs of life of a holder."""

    expiry_seconds: float = 40.0
    """Without a sign of life, after which a lease may be taken over."""

    look_seconds: float = 2.0
    """Between two looks of who waits."""

    def __post_init__(self) -> None:
        if not 0 < self.beat_seconds <= self.expiry_seconds / 2:
            raise ValueError(
                f"LeaseConfig.beat_seconds = {self.beat_seconds} must be positive and at most half of "
                f"expiry_seconds = {self.expiry_seconds}"
            )
        if not self.look_seconds > 0:
            raise ValueError(f"LeaseConfig.look_seconds must be positive, not {self.look_seconds}")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease."""

    process: ProcessIdentity
    work: str
    """Command, or run, for people."""
    since: str
    """When it was taken, by the holder's clock (UTC); for people."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __str__(self) -> str:
        return f"{self.work} on {self.process}, since {self.since}"


class LeaseHeld(RuntimeError):
    """Another process works on it; the message says which."""

    @classmethod
    def by(cls, name: str, holder: Holder | None) -> LeaseHeld:
        """Of a name that a holder has."""
        return cls(f"{name} is being worked on by {holder or 'a process that left no name'}")


class LeaseLost(RuntimeError):
    """Another process has taken over, because this one gave no sign of life for too long."""


class Lease:
    """A lease that is held, with a thread of its own that keeps it."""

    def __init__(
        self,
        files: ConditionalFiles,
        name: str,
        holder: Holder,
        version: Version,
        began: float,
        config: LeaseConfig,
        lost: Callable[[str], None],
    ) -> None:
        self.name, self.holder = name, holder
        self._files, self._version, self._config, self._lost = files, version, config, lost
        self._beat = 0
        self._valid_until = began + _VALID * config.expiry_seconds
        self._taken_by = ""
        self._lock, self._end = threading.RLock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease {name}", daemon=True)
        self._thread.start()
        _HELD[name] = self

    def check(self) -> None:
        """Raise LeaseLost unless it is certain that no other process has taken over."""
        with self._lock:
            if clock() >= self._valid_until:
                self._renew()
            if self._taken_by or clock() >= self._valid_until:
                raise LeaseLost(self._sentence())

    def release(self) -> None:
        """Let others work on it. Where the store cannot be reached, the lease expires."""
        _HELD.pop(self.name, None)
        self._end.set()
        if not self._lock.acquire(timeout=_RELEASE_SECONDS):
            return  # a sign of life is under way to a store that does not answer
        try:
            if not self._taken_by:
                with suppress(OSError, StoreUnavailableError):
                    self._files.write(self._path, _document(None, self._beat), self._version)
        finally:
            self._lock.release()

    @property
    def _path(self) -> str:
        return path_of(self.name)

    def _keep(self) -> None:
        while not self._end.wait(self._config.beat_seconds):
            with self._lock:
                if self._end.is_set():
                    return
                self._renew()
            if self._taken_by:
                self._lost(self._sentence())
                return

    def _renew(self) -> None:
        """A sign of life; tried again at the next beat where the store cannot be reached."""
        began = clock()
        try:
            version = self._write_beat()
        except (OSError, StoreUnavailableError):
            return
        if version is not None:
            self._version, self._valid_until = version, began + _VALID * self._config.expiry_seconds

    def _write_beat(self) -> Version | None:
        self._beat += 1
        data = _document(self.holder, self._beat)
        version = self._files.write(self._path, data, self._version)
        while version is None:
            now = self._files.read(self._path)
            other = _holder_of(now)
            if now is not None and (other is None or other.id != self.holder.id):
                self._taken_by = str(other or "another process, which is done by now")
                return None
            version = self._files.write(self._path, data, now)  # somebody deleted the file, or a late reply
        return version

    def _sentence(self) -> str:
        if not self._taken_by:
            return f"the lease of {self.name} could not be renewed: the storage was out of reach"
        return f"{self.name} was taken over by {self._taken_by}, because this process stood still"


_HELD: dict[str, Lease] = {}
"""What this process holds, by name."""


def is_held(name: str) -> bool:
    """Whether this process holds a lease of that name."""
    return name in _HELD


def check_held(name: str) -> None:
    """Raise LeaseLost where this process took a lease and may have lost it; before anything is written."""
    if lease := _HELD.get(name):
        lease.check()


class Leases:
    """Leases of one storage, as one piece of work takes them.

    Args:
        files: where they are kept.
        work: command or run, for others who wait.
        config: times.
        notice: called with a sentence when another process is waited for.
        lost: called with a sentence when a lease was lost while the work goes on; by default it interrupts
            the process.
    """

    def __init__(
        self,
        files: ConditionalFiles,
        work: str,
        config: LeaseConfig | None = None,
        notice: Callable[[str], None] = lambda _: None,
        lost: Callable[[str], None] | None = None,
    ) -> None:
        self.files, self.work, self.config = files, work, config or LeaseConfig()
        self._notice, self._lost = notice, lost or self._interrupt

    def take(self, name: str, *, wait: bool = True) -> Lease:
        """Take a lease.

        Raises LeaseHeld where another process has it and `wait` is off.
        """
        watch = Watch(self.config.expiry_seconds)
        told: Holder | str | None = ""
        while True:
            now = self.files.read(path_of(name))
            holder = _holder_of(now)
            if is_free(now) or watch.expired(now):
                if lease := self._try(name, now):
                    return lease
                continue
            if not wait:
                raise LeaseHeld.by(name, holder)
            if holder != told:
                self._notice(f"waiting: {LeaseHeld.by(name, holder)}")
                told = holder
            time.sleep(self.config.look_seconds)

    @contextmanager
    def held(self, *names: str, wait: bool = True) -> Iterator[list[Lease]]:
        """Several leases, taken in this order. Who takes several must take them in one order everywhere."""
        leases: list[Lease] = []
        try:
            for name in names:
                leases.append(self.take(name, wait=wait))
            yield leases
        finally:
            for lease in reversed(leases):
                lease.release()

    def _try(self, name: str, now: Version | None) -> Lease | None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = Holder(process=this_process(), work=self.work, since=since)
        began = clock()
        version = self.files.write(path_of(name), _document(holder, 0), now)
        if version is None:
            return None
        return Lease(self.files, name, holder, version, began, self.config, self._lost)

    def _interrupt(self, sentence: str) -> None:
        self._notice(f"{sentence}; stopping")
        os.kill(os.getpid(), signal.SIGINT)


class Watch:
    """Looks at one file's versions by the clock of this machine."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: tuple[str, float] | None = None

    def expired(self, version: Version | None) -> bool:
        """Whether the file has been as it is now for so many seconds."""
        return self.stood_still("" if version is None else version.tag)

    def stood_still(self, tag: str) -> bool:
        """Whether the same was found for so many seconds."""
        if self._seen is None or self._seen[0] != tag:
            self._seen = tag, clock()
        return clock() - self._seen[1] >= self._seconds


def clock() -> float:
    """Seconds that have passed on this machine, those that it slept included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def path_of(name: str) -> str:
    """Where a lease's file lies in the storage, directly below `leases` whatever its name holds."""
    return f"leases/{quote(name, safe='')}.json"


def is_free(version: Version | None) -> bool:
    """Whether nobody holds a lease, or one whose process is known to have ended."""
    if version is None or _parsed(version).get("holder", "") is None:
        return True
    holder = _holder_of(version)
    return holder is not None and is_gone(holder.process) is True


def holder_of(files: ConditionalFiles, name: str) -> tuple[Holder | None, Version | None]:
    """Who holds a lease, and the file that says so."""
    version = files.read(path_of(name))
    return _holder_of(version), version


def _holder_of(version: Version | None) -> Holder | None:
    """None where nobody does, or the file is damaged."""
    try:
        found: Any = _parsed(version)["holder"] if version else None
        process = ProcessIdentity.from_dict(found["process"])
        return Holder(process=process, work=str(found["work"]), since=str(found["since"]), id=found["id"])
    except (KeyError, TypeError, ValueError):
        return None


def _parsed(version: Version) -> dict[str, Any]:
    try:
        found = json.loads(version.data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _document(holder: Holder | None, beat: int) -> bytes:
    process = holder and {**vars(holder), "process": holder.process.as_dict()}
    # Two documents never have equal bytes: stores tell versions apart by them.
    return json.dumps({"holder": process, "beat": beat, "written": uuid.uuid4().hex}).encode() + b"\n"
