"""Where a shard's ledger is kept: segments in the storage, and on this machine what is not there yet.

Belongs here: appending so that a process killed at any moment loses nothing, reading all segments, and
putting many of them together. Not here: what a segment holds (`ledger_entries`), what it means (`ledger`).

On a local file system a process appends to a file of its own. An object store cannot append: there lines go
to a journal on this machine, of which every few seconds what is new is put as one object. A process that ends
puts all of its lines as one table and deletes its objects in one request; where other segments have become
many, they go into that table too. A segment is deleted only after a table that holds all of it was put, and
the name of a table is never used twice, so processes may do this side by side. A journal whose process was
killed is put into the store by whoever opens the ledger next on that machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from got_core.annotate.ledger_entries import (
    LINES,
    TABLE,
    Contents,
    Entry,
    digest_of,
    line_of,
    read_segment,
    table_of,
)
from got_core.local_files import temporary_beside
from got_core.storage import Storage, local_path

SYNC_SECONDS = 5.0
"""After so long what was written is forced to the disk, or put into the store."""
MERGE = 8
"""So many segments of other processes are put together with those of a process that ends."""
_TRIES = 5  # listings, where segments go while they are read


@dataclass
class Loaded:
    """All that a ledger holds."""

    entries: dict[str, Entry] = field(default_factory=dict)
    """By origin."""
    damaged: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    """Segments that are cut off or damaged, by name: what is whole of them is read, and they are kept."""
    whole: list[str] = field(default_factory=list)
    """Names of the others."""

    def add(self, name: str, contents: Contents) -> None:
        """Take in a segment; an entry that is known already counts once."""
        for origin, entry in contents.entries.items():
            self.entries.setdefault(origin, entry)
        self.damaged += contents.damaged
        if contents.fault:
            self.faults[name] = contents.fault
        else:
            self.whole.append(name)


class Segments(Protocol):
    """Where a process appends its lines, and reads those of all."""

    def load(self) -> Loaded:
        """Everything that is there."""

    def append(self, entry: Entry) -> None:
        """When this returns, a kill of the process does not lose the entry."""

    def flush(self) -> None:
        """When this returns, every machine can read what was appended."""

    def close(self) -> None:
        """Nothing more is to come, for now."""


def open_segments(storage: Storage, folder: str, run: str) -> Segments:
    """The segments below a folder of the storage, where `run` names this process. Reads and makes nothing."""
    path = local_path(storage.url_of(f"{folder}/{run}"))
    return FileSegments(storage, folder, path) if path else StoreSegments(storage, folder, run)


def load_segments(storage: Storage, folder: str) -> Loaded:
    """All segments of a folder, read side by side. Those that go meanwhile have become part of others."""
    loaded, known = Loaded(), set[str]()
    for _ in range(_TRIES):
        listed = storage.list(f"{folder}/")
        names = [name for name in listed if name.endswith((LINES, TABLE)) and name not in known]
        found = storage.read_many(names)
        for name in sorted(found):
            loaded.add(name, read_segment(name, found[name]))
        known |= found.keys()
        if len(found) == len(names):
            return loaded
    raise OSError(
        f"{storage.url_of(folder)}: segments went while they were read, {_TRIES} times; run it again"
    )


class _Journal:
    """A local file that is appended to; its writer holds a lock on it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.size = path, 0
        self._torn = False  # whether part of a line is at the end: what follows must not be joined to it
        hidden = temporary_beside(path)  # seen by others only when it is locked
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(hidden, flags, 0o644)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX)
        os.rename(hidden, path)

    def append(self, line: bytes) -> None:
        if self._torn:
            line, self._torn = b"\n" + line, False
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            self._torn = True
            raise
        finally:
            self.size += written

    def read(self, start: int, end: int) -> bytes:
        return os.pread(self._file, end - start, start)

    def sync(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


class FileSegments:
    """A local file for each process. A written line survives the process; for the machine's power the file is
    forced to the disk every few seconds, and at the end."""

    def __init__(self, storage: Storage, folder: str, path: Path) -> None:
        self._storage, self._folder, self._path = storage, folder, path
        self._journal: _Journal | None = None
        self._parts = 0
        self._synced = time.monotonic()
        self._lock = threading.Lock()

    def load(self) -> Loaded:
        return load_segments(self._storage, self._folder)

    def append(self, entry: Entry) -> None:
        with self._lock:
            if self._journal is None:
                part = f".{self._parts}" if self._parts else ""
                self._journal = _Journal(self._path.with_name(f"{self._path.name}{part}{LINES}"))
                self._parts += 1
            self._journal.append(line_of(entry))
            if time.monotonic() - self._synced > SYNC_SECONDS:
                self._journal.sync()
                self._synced = time.monotonic()

    def flush(self) -> None:
        """Nothing: others read the same file."""

    def close(self) -> None:
        with self._lock:
            if self._journal is not None:
                self._journal.sync()
                self._journal.close()
                self._journal = None


class StoreSegments:
    """Objects of a store that cannot append, and this process' journal beside it."""

    def __init__(self, storage: Storage, folder: str, run: str) -> None:
        self._storage, self._folder, self._run = storage, folder, run
        self._spool = _spool_folder(storage, folder)
        self._journal: _Journal | None = None
        self._journals, self._put_size = 0, 0  # journals opened; bytes of this one that are in the store
        self._parts: list[str] = []
        self._others: list[str] = []
        self._lock, self._putting = threading.Lock(), threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self) -> Loaded:
        # Journals first: a process that ends puts its table into the store before its journal goes.
        journals = dict(self._journals_here())
        loaded = load_segments(self._storage, self._folder)
        self._others = list(loaded.whole)
        for name, contents in journals.items():
            loaded.add(name, contents)
        return loaded

    def append(self, entry: Entry) -> None:
        with self._lock:
            if self._journal is None:
                self._begin()
            assert self._journal is not None
            self._journal.append(line_of(entry))

    def flush(self) -> None:
        with self._putting:
            self._put_new()

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._putting, self._lock:
            if self._journal is None:
                return
            data = self._journal.read(0, self._journal.size)
            self._put_together(read_segment(self._journal.path.name, data).entries)
            self._journal.path.unlink(missing_ok=True)
            self._journal.close()
            self._journal, self._thread = None, None

    def _begin(self) -> None:
        self._journal = _Journal(self._spool / f"{self._run}.{self._journals}{LINES}")
        self._journals, self._put_size = self._journals + 1, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_putting, name="ledger", daemon=True)
        self._thread.start()

    def _keep_putting(self) -> None:
        ended = self._ended
        while not ended.wait(SYNC_SECONDS):
            # The journal has what a store that is away does not get; closing says so if it stays away.
            with contextlib.suppress(Exception):
                self.flush()

    def _put_new(self) -> None:
        """Put what the store has not yet as one object."""
        with self._lock:
            journal = self._journal
            size = journal.size if journal else 0
        if journal is None or size == self._put_size:
            return
        name = f"{self._folder}/{self._run}-{len(self._parts):06d}{LINES}"
        self._storage.write_bytes(name, journal.read(self._put_size, size))
        self._parts.append(name)
        self._put_size = size

    def _put_together(self, own: Mapping[str, Entry]) -> None:
        """All of this process' entries as one table, with other segments where those are many."""
        entries, replaced = dict(own), list(self._parts)
        if len(self._others) >= MERGE:
            for name, data in self._storage.read_many(self._others).items():
                contents = read_segment(name, data)
                if not contents.fault:
                    entries = {**contents.entries, **entries}
                    replaced.append(name)
        put_table(self._storage, self._folder, entries)
        self._storage.delete_many(replaced)
        self._parts, self._others = [], []

    def _journals_here(self) -> Iterator[tuple[str, Contents]]:
        """Journals of this machine; one whose process has gone is put into the store, and goes too."""
        for path in sorted(self._spool.glob(f"*{LINES}")):
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                left = _lock_if_free(file.fileno())
                data = file.read()
                if left and os.fstat(file.fileno()).st_nlink:
                    self._storage.write_bytes(f"{self._folder}/{path.stem}-left{LINES}", data)
                    path.unlink(missing_ok=True)
                else:
                    yield path.name, read_segment(path.name, data)


def put_table(storage: Storage, folder: str, entries: Mapping[str, Entry]) -> str:
    """Put entries as a table of a name that no other has; returns it."""
    return put_data(storage, folder, table_of(entries))


def put_data(storage: Storage, folder: str, data: bytes) -> str:
    """Put the bytes of a table under a name that no other has; returns it."""
    name = f"{folder}/{time.time_ns():020d}-{uuid.uuid4().hex[:12]}-{digest_of(data)}{TABLE}"
    storage.write_bytes(name, data)
    return name


def put_left_journals(storage: Storage, folder: str) -> None:
    """Put journals of this machine whose process has ended into the store."""
    if not local_path(storage.url_of(folder)):
        for _ in StoreSegments(storage, folder, "")._journals_here():
            pass


def _spool_folder(storage: Storage, folder: str) -> Path:
    """Where this machine keeps journals of a store's folder."""
    where = [storage.url, storage.fs_options.get("endpoint_url"), folder]
    name = hashlib.sha256(json.dumps(where).encode()).hexdigest()[:24]
    return storage.cache_root() / "ledger" / name


def _lock_if_free(file: int) -> bool:
    """Whether a file's writer has gone; the lock is then ours until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
