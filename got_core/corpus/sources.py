"""An image shard's entries to single pictures: as they are (files), unpacked, or fetched.

Belongs here: going through entries of every kind, and the record of what was fetched. Does not belong here:
how archives, tables and URLs are read (``tars``, ``tables``, ``fetch``), what bytes mean (``inspection``).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.inspection import Inspected
from got_core.corpus.reader import ImageReader, Stamp
from got_core.corpus.schemas import FETCHED, frame_of
from got_core.corpus.sieve import Sieve
from got_core.corpus.store import stored_name
from got_core.storage import Storage

Entry = dict[str, Any]


class Item(NamedTuple):
    """One picture before it is inspected: its bytes, the path to read them from, or why there are none."""

    origin: str
    """What the user would recognise: path, URL, archive//member or table#row."""
    path: str = ""
    size: int | None = None
    modified: datetime | None = None
    data: bytes | None = None
    error: ImageError | None = None
    source: str | None = None
    licence: str | None = None
    fetched: bool = False
    etag: str | None = None
    name: str = ""
    """Of a member of an archive; ``path`` is then the archive's."""
    offset: int | None = None
    """Byte of the archive at which the member lies as it is."""


def items_of(
    entries: list[Entry], reader: ImageReader, log: FetchLog, config: IngestConfig, sieve: Sieve
) -> Generator[Item, None, None]:
    """Every picture of the entries: files, then archives and tables, then URLs in the order they come in.

    What is no input is counted by the sieve alone: members of archives, and files of older lists.
    """
    urls = []
    for entry in entries:
        if entry["problem"]:
            reason, _, detail = entry["problem"].partition(": ")
            yield _item(entry, size=entry["bytes"], error=ImageError(reason, detail))
        elif entry["kind"] == "url":
            urls.append(entry)
        elif entry["kind"] != "file":
            yield from _unpacked(entry, reader, config, sieve)
        elif sieve.accepts(entry["path"]):
            stamp = {"size": entry["bytes"], "modified": entry["modified"], "etag": entry["etag"]}
            yield _item(entry, path=entry["path"], **stamp)
    if urls:
        yield from _from_urls(urls, log, config)


def _item(entry: Entry, **more: Any) -> Item:
    return Item(entry["path"], source=entry["source"], licence=entry["licence"], **more)


def _unpacked(entry: Entry, reader: ImageReader, config: IngestConfig, sieve: Sieve) -> Iterator[Item]:
    from got_core.corpus.tables import read_parquet
    from got_core.corpus.tars import read_tar

    path = entry["path"]
    try:
        is_tar = entry["kind"] == "tar"
        stamp = Stamp(entry["bytes"], entry["modified"], entry["etag"])
        with reader.open_file(path, stamp, scattered=not is_tar) as file:
            found = (
                read_tar(file, path, config, sieve)
                if is_tar
                else read_parquet(file, path, entry["first"], entry["count"], config)
            )
            for one in found:
                named = one.source or entry["source"], one.licence or entry["licence"]
                place = {"path": path, "name": one.name, "offset": one.offset} if is_tar else {}
                yield Item(
                    one.origin, **place, data=one.data, error=one.error, source=named[0], licence=named[1]
                )
    except ImageError as error:
        yield _item(entry, size=entry["bytes"], error=ImageError(error.reason, error.detail))


def _from_urls(entries: list[Entry], log: FetchLog, config: IngestConfig) -> Iterator[Item]:
    from got_core.corpus.fetch import fetch_all

    pending: dict[str, Entry] = {}
    for entry in entries:
        path = log.path_of(entry["path"])
        if path is None:
            pending[entry["path"]] = entry
        else:
            yield _item(entry, path=path)
    if pending:
        for one in fetch_all(pending, config):
            yield _item(pending[one.url], data=one.data, error=one.error, fetched=True)


class FetchLog:
    """Which URLs of a shard were fetched, and where their bytes are. Survives a kill.

    Written in parts, so that an object store can keep it: nothing is ever rewritten.
    """

    EVERY, SECONDS = 200, 10.0

    def __init__(self, storage: Storage, shard: str) -> None:
        self._storage, self._folder = storage, f"fetched/{shard}"
        self._known: dict[str, str] | None = None
        self._new: list[dict[str, str]] = []
        self._written = time.monotonic()

    def path_of(self, url: str) -> str | None:
        """The stored picture of a URL, if it was fetched and its bytes are still there."""
        if self._known is None:
            names = [name for name in self._storage.list(f"{self._folder}/") if name.endswith(".parquet")]
            tables = [self._storage.read_table(name.removesuffix(".parquet")) for name in names]
            self._known = {url: path for table in tables for url, path in table.iter_rows()}
        path = self._known.get(url)
        return path if path and self._storage.exists(stored_name(path)) else None

    def record(self, item: Item, path: str, one: Inspected) -> None:
        """Remember a fetched picture that was good; what failed is tried again in the next run."""
        if not item.fetched or one.error is not None:
            return
        self._new.append({"url": item.origin, "path": path})
        if len(self._new) >= self.EVERY or time.monotonic() - self._written > self.SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is new."""
        if self._new:
            self._storage.write_table(f"{self._folder}/{uuid.uuid4().hex}", frame_of(self._new, FETCHED))
        self._new, self._written = [], time.monotonic()
