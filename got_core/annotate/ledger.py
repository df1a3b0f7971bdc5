"""The done-ledger: every question that a model has answered for a shard, and what the answer cost.

Belongs here: keys of questions, the records, and what has been spent. Not here: requests (`dispatch`), limits
(`spending`), files (`ledger_segments`) and their form (`ledger_entries`).

A ledger is a folder of segments in storage, `ledger/<shard>/`; each process appends to one of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, fields

from got_core.annotate.ledger_entries import Entry, in_order
from got_core.annotate.ledger_segments import Loaded, open_segments
from got_core.annotate.usage import NOTHING, Usage
from got_core.storage import Storage

FOLDER = "ledger"


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

    Nothing is read or made before the first question.

    Args:
        storage: where the tables are.
        scope: name of the shard, such as ``images-00000``.
        folder: what its folder lies below.
    """

    def __init__(self, storage: Storage, scope: str, folder: str = FOLDER) -> None:
        self._run = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
        self._segments = open_segments(storage, f"{folder}/{scope}", self._run)
        self._book: _Book | None = None
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def opened(self) -> bool:
        """Whether anything has been read."""
        return self._book is not None

    @property
    def spent(self) -> Usage:
        """What this shard had cost when the ledger was opened; requests that were cut off count with their
        worst case."""
        return self._opened().spent

    @property
    def damaged(self) -> int:
        """Lines that are no records: of a process that was killed while it wrote."""
        return self._opened().loaded.damaged

    @property
    def faults(self) -> dict[str, str]:
        """Segments that are cut off or damaged, and what is wrong. What is whole of them counts; they are
        never changed or deleted."""
        return self._opened().loaded.faults

    def get(self, key: str) -> Record | None:
        """The finished question of that key, if there is one."""
        return self._records.get(key)

    def finish(self, record: Record, lost: Usage = NOTHING) -> None:
        """Keep a finished question. When this returns, a kill of the process does not lose it.

        `lost` is what requests that were cut off may have cost beside the replies.
        """
        records = self._records
        self._append({"kind": "done", **vars(record), "lost": [*vars(lost).values()]})
        with self._lock:
            records[record.key] = record

    def reserve(self, key: str, worst_case: Usage) -> None:
        """Note, before a request, what it may cost at most: counted as spent if nothing follows."""
        self._append({"kind": "asked", "key": key, **vars(worst_case)})

    def drop(self, key: str, lost: Usage) -> None:
        """Note that the requests for a question ended without an answer, and what they may have cost."""
        self._append({"kind": "dropped", "key": key, **vars(lost)})

    def flush(self) -> None:
        """When this returns, other machines can read what was written."""
        self._segments.flush()

    def close(self) -> None:
        """Force what was written to the disk, or put it into the store. Raises what the store raises; what
        was written is then kept on this machine and put there when the ledger is opened next."""
        self._segments.close()

    @property
    def _records(self) -> dict[str, Record]:
        return self._opened().records

    def _opened(self) -> _Book:
        with self._lock:
            if self._book is None:
                self._book = _book_of(self._segments.load())
            return self._book

    def _append(self, entry: Entry) -> None:
        with self._lock:
            number = next(self._numbers)
        self._segments.append({"run": self._run, "n": number, **entry})


@dataclass(frozen=True)
class _Book:
    """What a ledger held when it was opened, and the records since."""

    loaded: Loaded
    records: dict[str, Record]
    spent: Usage


def _book_of(loaded: Loaded) -> _Book:
    entries = in_order(loaded.entries.values())
    records = {}
    for entry in entries:
        if entry["kind"] == "done":
            records[entry["key"]] = Record(**{k: v for k, v in entry.items() if k in _RECORD_FIELDS})
    spent = _spent(entries)
    loaded.entries = {}  # the records are what stays in memory
    return _Book(loaded, records, spent)


def _spent(entries: Iterable[Entry]) -> Usage:
    spent = NOTHING
    open_requests: dict[tuple[str, str], Usage] = {}
    for entry in entries:
        request = entry["run"], entry["key"]
        usage = Usage(entry["tokens_in"], entry["tokens_out"], entry["cost"])
        if entry["kind"] == "asked":
            open_requests[request] = open_requests.get(request, NOTHING) + usage
            continue
        open_requests.pop(request, None)
        spent += usage
        if entry["kind"] == "done":
            spent += Usage(*entry["lost"])
    return sum(open_requests.values(), spent)
