"""Files that are listed already, with another date or tag than by now: whether they hold what was ingested.

Copying a folder, restoring a back-up or moving a bucket gives files new dates or tags and changes no byte of
them. What is found to be the same keeps its shard; its new stamp lies beside the shard's list, which never
changes:

    listed/restamped/images-00000    rows (path, bytes, modified, first, etag)

Belongs here: comparing content, and the stamps that are kept. Not here: which entries are listed
(``listed``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from got_core.corpus.ahead import IO_THREADS
from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.listed import KEY, Listed
from got_core.corpus.reader import ImageReader, Stamp
from got_core.corpus.schemas import IMAGE_LIST, polars_schema
from got_core.corpus.sieve import Sieve
from got_core.corpus.sources import Entry, FetchLog, Item, items_of
from got_core.storage import Storage

FOLDER = "listed/restamped"
SAME_PLACE = ["path", "bytes", "first"]
"""What an entry has in common with its older version."""
_AT_ONCE = 1000
"""Entries that are compared before what was found is kept: an interrupted look goes on behind them."""


@dataclass(frozen=True, kw_only=True)
class Restamping:
    """Compares entries of one set of inputs with what was ingested of them."""

    storage: Storage
    raw_url: str
    config: IngestConfig
    fs_options: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, tuple[str, str]] = field(default_factory=dict)
    """First and last path of lists that were read: others are not read for the next page."""

    def settle(self, listed: Listed, new: pl.DataFrame) -> pl.DataFrame:
        """What is left of entries (:data:`IMAGE_LIST`) that no list has, in their order.

        Those leave whose path and size are listed and that hold, byte for byte, what a shard's table of
        images says; the shard, the index and later listings know them by their new stamp from then on. Of
        what was not ingested yet nothing is known, and it stays.
        """
        may = new.filter(pl.col("problem").is_null() & (pl.col("kind") != "url"))
        may = may.join(listed.of_places(may), on=SAME_PLACE, how="semi", nulls_equal=True)
        if may.is_empty():
            return new
        settled = [may.clear()]
        for shard, entries in self._by_shard(listed, may):
            entries = entries.join(pl.concat(settled), on=KEY, how="anti", nulls_equal=True)
            for start in range(0, entries.height, _AT_ONCE):
                same = self._same(shard, entries.slice(start, _AT_ONCE))
                self._keep(listed, shard, same)
                settled.append(same)
        return new.join(pl.concat(settled), on=KEY, how="anti", nulls_equal=True, maintain_order="left")

    def _by_shard(self, listed: Listed, entries: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
        """Entries by each ingested shard that lists their places."""

        low, high = str(entries["path"].min()), str(entries["path"].max())

        def within(shard: str) -> tuple[str, pl.DataFrame]:
            first, last = self.ranges.get(shard, (low, high))
            if first > high or last < low:
                return shard, entries.clear()
            return shard, entries.join(self._places(shard), on=SAME_PLACE, how="semi", nulls_equal=True)

        with ThreadPoolExecutor(8) as pool:
            found = [(shard, rows) for shard, rows in pool.map(within, listed.names) if rows.height]
        for shard, rows in found:
            if self.storage.exists(f"raw_images/{shard}.parquet"):
                yield shard, rows

    def _places(self, shard: str) -> pl.DataFrame:
        frame = self.storage.read_table(f"shards/{shard}")
        types = polars_schema(IMAGE_LIST)
        missing = [pl.lit(None, types[name]).alias(name) for name in SAME_PLACE if name not in frame.columns]
        if frame.height:
            self.ranges[shard] = str(frame["path"].min()), str(frame["path"].max())
        return frame.with_columns(missing).select(SAME_PLACE)

    def _same(self, shard: str, entries: pl.DataFrame) -> pl.DataFrame:
        """The entries that hold what the shard's table says."""
        reader = ImageReader(
            self.raw_url,
            self.config,
            self.fs_options,
            store_url=self.storage.url,
            store_options=self.storage.fs_options,
        )
        table = self.storage.scan_table(f"raw_images/{shard}").select("paths", "image_id").collect()
        known = dict(table.explode("paths").iter_rows())
        log = FetchLog(self.storage, shard)

        def holds_the_same(entry: Entry) -> bool:
            expected = _expected(known, entry)
            if not any(expected.values()):
                return False
            with closing(items_of([entry], reader, log, self.config, Sieve(self.config))) as items:
                found = {item.origin: _content(reader, item) for item in items}
            return found.keys() == expected.keys() and all(
                one is None or one == found[origin] for origin, one in expected.items()
            )

        with ThreadPoolExecutor(self.config.workers or IO_THREADS) as pool:
            return entries.filter(list(pool.map(holds_the_same, entries.iter_rows(named=True))))

    def _keep(self, listed: Listed, shard: str, same: pl.DataFrame) -> None:
        if same.is_empty():
            return
        stamps = same.select(KEY)
        earlier = _stamps(self.storage, shard)
        kept = earlier.join(stamps, on=SAME_PLACE, how="anti", nulls_equal=True)
        self.storage.write_table(f"{FOLDER}/{shard}", pl.concat([kept, stamps]))
        listed.add_stamps(stamps)


def with_stamps(storage: Storage, shard: str, entries: pl.DataFrame) -> pl.DataFrame:
    """A shard's list with the stamps that its files were found to have since, content unchanged."""
    stamps = _stamps(storage, shard)
    if stamps.is_empty():
        return entries
    named = {name: f"{name}_now" for name in ("modified", "etag")}
    found = stamps.with_columns(is_new=pl.lit(True)).rename(named)
    joined = entries.join(found, on=SAME_PLACE, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(
        pl.when("is_new").then(pl.col(now)).otherwise(pl.col(name)).alias(name) for name, now in named.items()
    ).select(entries.columns)


def _stamps(storage: Storage, shard: str) -> pl.DataFrame:
    with suppress(FileNotFoundError):
        return storage.read_table(f"{FOLDER}/{shard}")
    types = polars_schema(IMAGE_LIST)
    return pl.DataFrame(schema={name: types[name] for name in KEY})


def _content(reader: ImageReader, item: Item) -> str | None:
    """SHA-256 of a picture's bytes; None where they cannot be had."""
    if item.error is not None:
        return None
    data = item.data
    if data is None:
        stamp = Stamp(item.size or 0, item.modified, item.etag) if item.modified else None
        try:
            data = reader.read_bytes(item.path, stamp)
        except ImageError:
            return None
    return hashlib.sha256(data).hexdigest()


def _expected(known: dict[str, str | None], entry: Entry) -> dict[str, str | None]:
    """SHA-256 of an entry's pictures by origin, as the table has it; None where it is not known: what could
    not be read, or is not wanted."""
    path, first = entry["path"], entry["first"]
    if entry["kind"] == "file":
        return {path: known.get(path)}
    if entry["kind"] == "tar":
        return {origin: one for origin, one in known.items() if origin.startswith(f"{path}//")}
    rows = (f"{path}#{row}" for row in range(first or 0, (first or 0) + (entry["count"] or 0)))
    return {origin: known[origin] for origin in rows if origin in known}
