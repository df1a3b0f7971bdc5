"""The done-ledger: every question that a model has answered for a shard, and what the answer cost.

Belongs here: keys of questions, the records, and appending them so that a process killed at any byte loses
nothing that was finished. Not here: requests (`dispatch`), limits (`spending`).

A ledger is a folder of segments in storage, `ledger/<shard>/<segment>.jsonl`; each process appends to one of
its own. A line is a checksum and a JSON record; a line that was cut off, or is damaged, is no record.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from got_core.annotate.usage import NOTHING, Usage
from got_core.storage import Storage, local_path

FOLDER = "ledger"
_SYNC_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """What an answer depends on; `key` is its name in the ledger."""

    step: str
    """Name of the prompt; for people."""
    prompt: str
    """Hash of the prompt's text and schema."""
    texts: tuple[tuple[str, str], ...]
    """What is filled into the prompt: name and text."""
    image: str | None
    """Hash of the pixels."""
    model: str
    revision: str
    sampling: tuple[tuple[str, float | int | str | None], ...]
    """Everything else that the reply depends on: temperature, seed, length, size of the picture."""

    @property
    def key(self) -> str:
        """40 hex digits of SHA-256."""
        parts = [self.prompt, self.texts, self.image, self.model, self.revision, self.sampling]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished question: the reply that is kept, or why there is none that can be used."""

    key: str
    step: str
    prompt: str
    model: str
    revision: str
    image: str | None
    text: str
    """The answer without reasoning; the reply as it came where it holds none."""
    reason: str | None = None
    """Why the row is quarantined; None: the reply is fine."""
    detail: str = ""
    replies: int = 1
    """How many replies it took."""
    tokens_in: int = 0
    """Of all replies together."""
    tokens_out: int = 0
    cost: float = 0.0

    @property
    def usage(self) -> Usage:
        """Of all replies together."""
        return Usage(self.tokens_in, self.tokens_out, self.cost)


_RECORD_FIELDS = {item.name for item in fields(Record)}


class Ledger:
    """Finished questions of one shard, and what has been spent on them. Safe to use from several threads.

    Args:
        storage: where the tables are.
        scope: name of the shard, such as ``images-00000``.
    """

    def __init__(self, storage: Storage, scope: str) -> None:
        self._folder = f"{FOLDER}/{scope}"
        self._run = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
        self._records: dict[str, Record] = {}
        self._lock = threading.Lock()
        self.damaged = 0
        """Lines that are no records: of a process that was killed while it wrote."""
        self._segments: _Segments = _segments(storage, f"{self._folder}/{self._run}")
        self.spent = self._load(storage)
        """What this shard has cost so far; requests that were cut off count with their worst case."""

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: str) -> Record | None:
        """The finished question of that key, if there is one."""
        return self._records.get(key)

    def finish(self, record: Record, lost: Usage = NOTHING) -> None:
        """Keep a finished question. When this returns, a kill of the process does not lose it.

        `lost` is what requests that were cut off may have cost beside the replies.
        """
        self._append({"kind": "done", **vars(record), "lost": [*vars(lost).values()]})
        with self._lock:
            self._records[record.key] = record

    def reserve(self, key: str, worst_case: Usage) -> None:
        """Note, before a request, what it may cost at most: counted as spent if nothing follows."""
        self._append({"kind": "asked", "key": key, **vars(worst_case)})

    def drop(self, key: str, lost: Usage) -> None:
        """Note that the requests for a question ended without an answer, and what they may have cost."""
        self._append({"kind": "dropped", "key": key, **vars(lost)})

    def close(self) -> None:
        """Force what was written to the disk."""
        self._segments.close()

    @property
    def slow(self) -> bool:
        """Whether writing a record takes a round trip to an object store."""
        return self._segments.slow

    def _append(self, entry: dict[str, Any]) -> None:
        data = json.dumps({"run": self._run, **entry}, separators=(",", ":")).encode()
        self._segments.append(b"%08x %s\n" % (zlib.crc32(data), data))

    def _load(self, storage: Storage) -> Usage:
        """Read all segments; returns what was spent by them."""
        spent = NOTHING
        open_requests: dict[tuple[str, str], Usage] = {}
        for name in storage.list(f"{self._folder}/"):
            for entry in self._entries(storage.read_bytes(name)):
                request = entry["run"], entry["key"]
                usage = Usage(entry["tokens_in"], entry["tokens_out"], entry["cost"])
                if entry["kind"] == "asked":
                    open_requests[request] = open_requests.get(request, NOTHING) + usage
                    continue
                open_requests.pop(request, None)
                spent += usage
                if entry["kind"] == "done":
                    spent += Usage(*entry["lost"])
                    self._add_record(entry)
        return sum(open_requests.values(), spent)

    def _add_record(self, entry: dict[str, Any]) -> None:
        record = Record(**{name: value for name, value in entry.items() if name in _RECORD_FIELDS})
        self._records[record.key] = record

    def _entries(self, data: bytes) -> Iterator[dict[str, Any]]:
        for line in data.split(b"\n"):
            if not line:
                continue
            entry = _checked(line)
            if entry is None:
                self.damaged += 1
            else:
                yield entry


def _checked(line: bytes) -> dict[str, Any] | None:
    """The record of a line, None where the line is cut off or damaged."""
    checksum, _, data = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(data):
        return None
    return json.loads(data)


class _Segments(Protocol):
    """Where a process appends its lines."""

    slow: bool

    def append(self, line: bytes) -> None: ...

    def close(self) -> None: ...


def _segments(storage: Storage, name: str) -> _Segments:
    path = local_path(storage.url_of(name))
    return _FileSegment(path.with_name(path.name + ".jsonl")) if path else _ObjectSegments(storage, name)


class _FileSegment:
    """One local file. A written line survives the process; the machine's power is another matter: every few
    seconds, and at the end, the file is forced to the disk."""

    slow = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._part = 0
        self._synced = time.monotonic()
        self._lock = threading.Lock()

    def append(self, line: bytes) -> None:
        with self._lock:
            if self._file is None:
                self._file = self._open()
            try:
                written = 0
                while written < len(line):
                    written += os.write(self._file, line[written:])
            except OSError:
                # Part of the line may be there: what comes later must not be joined to it.
                self._end()
                raise
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.fsync(self._file)
                self._end()

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        path = self._path.with_suffix(f".{self._part}.jsonl") if self._part else self._path
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def _end(self) -> None:
        assert self._file is not None
        os.close(self._file)
        self._file, self._part = None, self._part + 1


class _ObjectSegments:
    """Objects of a store that cannot append: all lines that wait while one object is put go into the next."""

    slow = True

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage, self._name = storage, name
        self._pending: list[bytes] = []
        self._appended, self._stored = 0, 0  # lines given to append, lines that are in the store
        self._parts = 0
        self._written: list[tuple[str, bytes]] = []
        self._lock, self._putting = threading.Lock(), threading.Lock()

    def append(self, line: bytes) -> None:
        with self._lock:
            self._pending.append(line)
            self._appended += 1
            line_number = self._appended
        with self._putting:
            if self._stored >= line_number:  # went along with another thread's lines
                return
            with self._lock:
                lines = list(self._pending)
            self._put(b"".join(lines))
            with self._lock:
                del self._pending[: len(lines)]
            self._stored += len(lines)

    def close(self) -> None:
        """Many small objects become one: it is there before they go, and twice the same record is one."""
        with self._putting:
            small, self._written = self._written, []
            if len(small) > 1:
                self._put(b"".join(data for _, data in small))
                for name, _ in small:
                    self._storage.delete(name)

    def _put(self, data: bytes) -> None:
        name = f"{self._name}-{self._parts:06d}.jsonl"
        self._parts += 1
        self._storage.write_bytes(name, data)
        self._written.append((name, data))
