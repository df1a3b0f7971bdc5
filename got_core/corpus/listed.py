"""Which entries have been listed: an index over all lists of image shards, read a part at a time.

Belongs here: leaves (parquet, sorted by path, each with the paths between two of them) and the directory that
names them. The lists of shards are the truth: what the index lacks is read from them, and an index that does
not fit them is made anew. Does not belong here: cutting shards (``shards``), what is found (``listing``).

Two processes may write at once: leaves are never changed, and each directory fits its own leaves.
"""

from __future__ import annotations

import logging
import time
import uuid
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl

from got_core.corpus.schemas import IMAGE_LIST, polars_schema
from got_core.storage import Storage

KEY = ["path", "bytes", "modified", "first", "etag"]
_TAGGED = ["path", "bytes", "first", "etag"]
_DATED = ["path", "bytes", "modified", "first"]
_FOLDER = "listed"
_DIRECTORY = f"{_FOLDER}/directory.json"
_LEAF = 50_000
"""Rows of a leaf, at most: some 10 MB in memory."""
_LISTS_AT_ONCE = 100
_UNUSED_FOR = timedelta(hours=1)

_log = logging.getLogger(__name__)


class Listed:
    """The index, as it is in the storage.

    Args:
        storage: where lists and index are.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lists = self._names("shards/images-")
        self._leaves: list[tuple[str, str]] = []
        self._covered = 0
        self._read_directory()

    @property
    def names(self) -> list[str]:
        """Names of all shards of images, sorted."""
        return [name.removeprefix("shards/") for name in self._lists]

    @property
    def next_number(self) -> int:
        """The number of the next shard."""
        return 1 + int(self._lists[-1].rpartition("-")[2]) if self._lists else 0

    def catch_up(self, until: float | None = None) -> bool:
        """Take in lists that the index lacks, up to the time (``time.monotonic``); whether none is left."""
        self._lists = self._names("shards/images-")
        while self._covered < len(self._lists):
            names = self._lists[self._covered :][:_LISTS_AT_ONCE]
            with ThreadPoolExecutor(8) as pool:
                rows = pl.concat(pool.map(self._read_list, names))
            self._insert(rows, len(names))
            if until is not None and time.monotonic() > until:
                break
        return self._covered == len(self._lists)

    def unlisted(self, found: pl.DataFrame) -> pl.DataFrame:
        """Rows of :data:`IMAGE_LIST` that no list has, in their order.

        A store's tag of the content and the size tell versions of a path apart; where either side has no tag,
        size and time of change do.
        """
        if found.is_empty():
            return found
        low, high = str(found["path"].min()), str(found["path"].max())
        for leaf in self._overlapping(low, high):
            found = _without(found, leaf)
        return found

    def of_places(self, found: pl.DataFrame) -> pl.DataFrame:
        """Listed entries of the same path, size and first row, whatever their time of change or tag: columns
        path, bytes and first."""
        places = found.select("path", "bytes", "first")
        listed = [places.clear()]
        if found.height:
            low, high = str(found["path"].min()), str(found["path"].max())
            for leaf in self._overlapping(low, high):
                rows = leaf.select(places.columns)
                listed.append(rows.join(places, on=places.columns, how="semi", nulls_equal=True))
        return pl.concat(listed).unique()

    def add_stamps(self, rows: pl.DataFrame) -> None:
        """Take in entries that lists have with another stamp (see ``restamped``). An index that is made anew
        lacks them, and they are compared again."""
        self._insert(rows.select(KEY), 0)

    def add(self, rows: pl.DataFrame, names: list[str]) -> None:
        """Take in the rows of lists that were just written."""
        self._lists += names
        self._insert(rows.select(KEY), len(names))

    def sweep_out(self) -> None:
        """Remove leaves that no directory names and that nobody can still be reading."""
        used = {name for _, name in self._leaves}
        for name in self._storage.list(f"{_FOLDER}/leaf-"):
            stem = name.removesuffix(".parquet")
            written = None if stem in used else self._storage.modified(name)
            if written is not None and datetime.now(UTC) - written > _UNUSED_FOR:
                self._storage.delete(name)

    def _names(self, prefix: str) -> list[str]:
        names = self._storage.list(prefix)
        return [name.removesuffix(".parquet") for name in names if name.endswith(".parquet")]

    def _read_directory(self) -> None:
        try:
            kept = self._storage.read_json(_DIRECTORY)
            covered, leaves = kept["lists"], [(first, name) for first, name in kept["leaves"]]
            last = kept["last"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("the index of what is listed is made anew: %s", error)
            return
        there = set(self._names(f"{_FOLDER}/leaf-"))
        if covered > len(self._lists) or (covered and self._lists[covered - 1] != last):
            _log.warning("the index of what is listed is made anew: lists of shards are no longer there")
        elif missing := {name for _, name in leaves} - there:
            _log.warning("the index of what is listed is made anew: %s is missing", min(missing))
        else:
            self._covered, self._leaves = covered, leaves

    def _write_directory(self) -> None:
        last = self._lists[self._covered - 1] if self._covered else None
        kept = {"lists": self._covered, "last": last, "leaves": self._leaves}
        self._storage.write_json(_DIRECTORY, kept)

    def _read_list(self, name: str) -> pl.DataFrame:
        frame = self._storage.read_table(name)
        types = polars_schema(IMAGE_LIST)
        missing = [pl.lit(None, types[column]).alias(column) for column in KEY if column not in frame.columns]
        return frame.with_columns(missing).select(KEY)

    def _overlapping(self, low: str, high: str) -> Iterator[pl.DataFrame]:
        for at in range(self._position(low), len(self._leaves)):
            if self._leaves[at][0] > high:
                return
            yield self._storage.read_table(self._leaves[at][1])

    def _position(self, path: str) -> int:
        return max(0, bisect_right(self._leaves, path, key=lambda leaf: leaf[0]) - 1)

    def _insert(self, rows: pl.DataFrame, lists: int) -> None:
        leaves: list[tuple[str, str]] = []
        rows = rows.sort("path")
        for at in range(max(1, len(self._leaves))):
            last = at + 1 >= len(self._leaves)
            own = rows if last else rows.filter(pl.col("path") < self._leaves[at + 1][0])
            rows = rows.slice(own.height)
            if own.height:
                leaves += self._grown(self._leaves[at : at + 1], own)
            else:
                leaves += self._leaves[at : at + 1]
        self._leaves = leaves
        self._covered += lists
        self._write_directory()

    def _grown(self, leaf: list[tuple[str, str]], rows: pl.DataFrame) -> Iterator[tuple[str, str]]:
        """A leaf with more rows, as one or several. Rows of one path stay together."""
        frames = [self._storage.read_table(name) for _, name in leaf]
        rows = pl.concat([*frames, rows]).sort("path")
        size = -(-rows.height // -(-rows.height // _LEAF))
        firsts = sorted({rows["path"][start] for start in range(0, rows.height, size)})
        starts = [int(rows["path"].search_sorted(first, "left")) for first in firsts]
        for start, stop in zip(starts, [*starts[1:], rows.height], strict=True):
            name = f"{_FOLDER}/leaf-{uuid.uuid4().hex}"
            self._storage.write_table(name, rows.slice(start, stop - start))
            yield rows["path"][start], name


def _without(found: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """Rows that are not among those listed."""
    tagged, untagged = listed.drop_nulls("etag"), listed.filter(pl.col("etag").is_null())
    new = found.join(tagged, on=_TAGGED, how="anti", nulls_equal=True, maintain_order="left")
    return new.join(untagged, on=_DATED, how="anti", nulls_equal=True, maintain_order="left")
