"""Objects that hold bucket events, below a prefix of S3: read once, in any order of their names.

Belongs here: which of them are read, and what they say about an input's objects. Does not belong here: the
form of events (``bucket_events``), which objects are input (``listing``).

A pass goes through the whole prefix and reads what was written since the last pass began: a store lists all
that was there when it was asked, so nothing is missed, whatever names the objects have.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import polars as pl
from fsspec.asyn import sync

from got_core.corpus.bucket_events import BadEvent, Event, events_in, latest
from got_core.corpus.inputs import Input
from got_core.corpus.inventory_files import OBJECTS
from got_core.corpus.reader import EPOCH, Stamp, remote_stamp
from got_core.filesystems import open_filesystem

KEYS = 1000
"""Keys that are asked for at once; no store gives more."""
MARGIN = timedelta(minutes=30)
"""What was written so long before the last pass is read again: a large object counts from the time at which
its writing began, and a store's machines may differ a little."""
_READERS = 16
_READ_AT_ONCE = 8 * 1024**2
"""Bytes of objects that are read at once, or one object."""
_BAD = 20
"""Parts of an object that are no events and are named, at most; the others are counted."""
MOST = 128 * 1024**2
"""Bytes of an object after decompression, at most; Firehose writes no larger ones."""


class Announced(NamedTuple):
    """What some objects with events say."""

    frame: pl.DataFrame
    """:data:`inventory_files.OBJECTS` that were written, keys relative to the input's base and sorted."""
    bad: list[dict[str, Any]]
    """What is no event: path (of the object, with the line), bytes, modified, etag and problem."""
    after: str = ""
    """The last object of events that was looked at."""
    more: bool = False
    listed: datetime = EPOCH
    """When the store said that these were there, by its own clock."""


class _Object(NamedTuple):
    key: str
    stamp: Stamp


def announced(one: Input, since: datetime, after: str = "") -> Iterator[Announced]:
    """What the objects with events say that lie behind the key `after` and were written since; at least one
    part, if an empty one.

    Of each object that they name, what happened to it last within the part counts. Events of other buckets or
    prefixes are passed over.

    Raises:
        StoreUnavailableError: the store was not reached or refused.
    """
    reading = _Reading(one)
    more = True
    while more:
        keys, more, listed = reading.keys(after)
        wanted = [found for found in keys if found.stamp.modified >= since - MARGIN]
        groups = list(_groups(wanted)) or [[]]
        for number, group in enumerate(groups):
            last = number == len(groups) - 1
            after = (keys[-1] if last else group[-1]).key if keys else after
            part = reading.announced(group)
            yield part._replace(after=after, more=more or not last, listed=listed)


class _Reading:
    def __init__(self, one: Input) -> None:
        assert one.events is not None
        self._fs, root = open_filesystem(one.events, **one.options)
        self._bucket, _, folder = root.rstrip("/").partition("/")
        self._folder = f"{folder}/" if folder else ""
        source, _, prefix = open_filesystem(one.base, **one.options)[1].rstrip("/").partition("/")
        self._source, self._prefix = source, f"{prefix}/" if prefix else ""

    def keys(self, after: str) -> tuple[list[_Object], bool, datetime]:
        """Some objects behind a key, whether there are more, and the store's time."""
        asked = {"Bucket": self._bucket, "Prefix": self._folder, "MaxKeys": KEYS}
        start = {"StartAfter": after} if after else {}
        answer = sync(self._fs.loop, self._fs._call_s3, "list_objects_v2", **asked, **start)
        found = answer.get("Contents", [])
        objects = [_Object(one["Key"], remote_stamp({**one, "size": one["Size"]})) for one in found]
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        listed = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return objects, bool(answer.get("IsTruncated")), listed

    def announced(self, group: list[_Object]) -> Announced:
        """What a group of objects says."""
        events: list[Event] = []
        bad: list[dict[str, Any]] = []
        with ThreadPoolExecutor(_READERS) as pool:
            for found, ours, problems in pool.map(self._read, group):
                events += ours
                bad += [_problem(self._bucket, found, problem) for problem in problems]
            written = [event for event in latest(events) if not event.removed]
            rows = [row for row in pool.map(self._row, written) if row is not None]
        return Announced(pl.DataFrame(rows, schema=OBJECTS, orient="row"), bad)

    def _read(self, found: _Object) -> tuple[_Object, list[Event], list[BadEvent]]:
        """Events about the input's objects, and what is none."""
        try:
            data = _plain(self._fs.cat_file(f"{self._bucket}/{found.key}"))
        except FileNotFoundError:  # expired since it was listed
            return found, [], []
        except (OSError, EOFError, zlib.error, ValueError) as error:
            return found, [], [BadEvent("", f"{type(error).__name__}: {error}"[:200])]
        ours: list[Event] = []
        bad: list[BadEvent] = []
        more = 0
        for event in events_in(data):
            if isinstance(event, Event):
                ours += [event] if self._is_ours(event) else []
            elif len(bad) < _BAD:
                bad.append(event)
            else:
                more += 1
        return found, ours, bad + ([BadEvent("others", f"{more} more that are none")] if more else [])

    def _is_ours(self, event: Event) -> bool:
        return event.bucket == self._source and event.key.startswith(self._prefix)

    def _row(self, event: Event) -> tuple[str, int, datetime, str | None] | None:
        path = event.key[len(self._prefix) :]
        if event.size is not None and event.etag is not None:
            return path, event.size, event.when, event.etag
        try:  # some stores leave them out
            return path, *remote_stamp(self._fs.info(f"{event.bucket}/{event.key}"))
        except FileNotFoundError:
            return None


def _groups(found: list[_Object]) -> Iterator[list[_Object]]:
    """Objects in order, not too many bytes at once."""
    group: list[_Object] = []
    size = 0
    for one in found:
        if group and size + one.stamp.bytes > _READ_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(one)
        size += one.stamp.bytes
    if group:
        yield group


def _plain(data: bytes) -> bytes:
    """An object's bytes after decompression. Raises OSError, EOFError, zlib.error or ValueError."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST + 1)
    if len(data) > MOST:
        raise ValueError(f"more than {MOST} bytes of events in one object")
    return data


def _problem(bucket: str, found: _Object, bad: BadEvent) -> dict[str, Any]:
    place = f"s3://{bucket}/{found.key}" + (f"#{bad.place}" if bad.place else "")
    return {"path": place, **found.stamp._asdict(), "problem": f"bad_event: {bad.why}"}
