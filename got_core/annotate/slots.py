"""How many questions are under way at once, over all shards and processes of a machine.

Belongs here: taking a slot and giving it back. Not here: what is done meanwhile (`dispatch`).

A slot is a byte of a file that a process has locked. The system unlocks what a process held when it ends,
however it ends, so nothing is left to clear up. A slot that is given back goes to the next question of the
same process, unless other processes are at work and this one has more than its share: then whoever looks
first takes it. Processes look every few milliseconds while they have questions waiting.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import random
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_MEMBERS = 1 << 20  # place of the first byte by which processes at work are counted
_MOST_MEMBERS = 128
_LOOK_SECONDS = 0.004
_COUNT_SECONDS = 0.25


@dataclass
class _Waiter:
    loop: asyncio.AbstractEventLoop
    slot: asyncio.Future[int]


class Slots:
    """So many slots, shared with all who open them at the same path. Close them.

    Args:
        count: how many there are.
        path: file that stands for them, made if need be. None, or on a file system without locks: they are
            those of this process alone.
    """

    def __init__(self, count: int, path: Path | None = None) -> None:
        self._pool = _pool(count, path)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A slot for as long as the block runs; waits until there is one."""
        slot = await self._pool.take()
        try:
            yield
        finally:
            self._pool.give_back(slot)

    def close(self) -> None:
        """Nothing more is wanted here."""
        self._pool.leave()


def slots_path(folder: Path, server: str) -> Path:
    """The file below a folder that stands for the slots of a server."""
    return folder / f"{hashlib.sha256(server.encode()).hexdigest()[:16]}.slots"


_POOLS: dict[tuple[int, Path], _Pool] = {}
_POOLS_LOCK = threading.Lock()


def _pool(count: int, path: Path | None) -> _Pool:
    """This process' pool of a path: its locks go when any handle on the file is closed, so there is one."""
    if path is None:
        pool = _Pool(count, None)
        pool.users = 1
        return pool
    path.parent.mkdir(parents=True, exist_ok=True)
    key = os.getpid(), path.resolve()
    with _POOLS_LOCK:
        pool = _POOLS.get(key) or _POOLS.setdefault(key, _Pool(count, key[1]))
        pool.users, pool.count = pool.users + 1, count
        return pool


class _Pool:
    """The slots as one process has them. Used from any thread and event loop."""

    def __init__(self, count: int, path: Path | None) -> None:
        self.count, self.users = count, 0
        self._path = path
        self._file = None if path is None else os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._held: set[int] = set()
        self._waiters: deque[_Waiter] = deque()
        self._lock = threading.Lock()
        self._looking = False
        self._member = self._join()
        self._others, self._counted = 0, float("-inf")

    async def take(self) -> int:
        """Wait for a slot."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if not self._waiters and (slot := self._free_slot()) is not None:
                return slot
            waiter = _Waiter(loop, loop.create_future())
            self._waiters.append(waiter)
            self._look()
        try:
            return await waiter.slot
        except asyncio.CancelledError:
            if waiter.slot.done() and not waiter.slot.cancelled():
                self.give_back(waiter.slot.result())
            raise

    def give_back(self, slot: int) -> None:
        """Hand a slot on: to the next question here, or to whoever takes it."""
        with self._lock:
            if self._waiters and len(self._held) <= self._share():
                self._deliver(self._waiters.popleft(), slot)
            else:
                self._unlock(slot)
                self._held.discard(slot)
                self._look()

    def leave(self) -> None:
        """One user less; with the last one the process is no longer counted."""
        with _POOLS_LOCK, self._lock:
            self.users -= 1
            if not self.users:
                if self._path is not None:
                    _POOLS.pop((os.getpid(), self._path), None)
                if self._file is not None:
                    os.close(self._file)
                    self._file = None

    # With the lock held

    def _free_slot(self) -> int | None:
        """Lock a slot that nobody has."""
        for slot in range(self.count):
            if slot not in self._held and self._locked(slot):
                self._held.add(slot)
                return slot
        return None

    def _share(self) -> int:
        """Slots that this process may keep though others wait."""
        if self._file is not None and time.monotonic() - self._counted > _COUNT_SECONDS:
            self._counted = time.monotonic()
            self._others = sum(map(self._is_taken, range(_MEMBERS, _MEMBERS + _MOST_MEMBERS)))
        return self.count // (self._others + 1)

    def _deliver(self, waiter: _Waiter, slot: int) -> None:
        try:
            waiter.loop.call_soon_threadsafe(self._set, waiter.slot, slot)
        except RuntimeError:  # its event loop is closed
            self._unlock(slot)
            self._held.discard(slot)

    def _look(self) -> None:
        """Have a thread look for slots as long as questions wait."""
        if self._waiters and not self._looking:
            self._looking = True
            threading.Thread(target=self._keep_looking, name="slots", daemon=True).start()

    # Without

    def _keep_looking(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS * random.uniform(0.5, 1.5))
            with self._lock:
                while self._waiters and self.users and (slot := self._free_slot()) is not None:
                    self._deliver(self._waiters.popleft(), slot)
                if not self._waiters or not self.users:
                    self._looking = False
                    return

    def _set(self, future: asyncio.Future[int], slot: int) -> None:
        if future.done():  # whoever waited was cancelled
            self.give_back(slot)
        else:
            future.set_result(slot)

    # Locks

    def _join(self) -> int:
        """Lock the byte by which others count this process."""
        start = random.randrange(_MOST_MEMBERS)
        for k in range(_MOST_MEMBERS):
            member = _MEMBERS + (start + k) % _MOST_MEMBERS
            if self._locked(member):
                return member
        return -1

    def _is_taken(self, member: int) -> bool:
        if member == self._member:
            return False
        if not self._locked(member):
            return True
        self._unlock(member)
        return False

    def _locked(self, byte: int) -> bool:
        if self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            os.close(self._file)  # a file system without locks
            self._file = None
        return True

    def _unlock(self, byte: int) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
