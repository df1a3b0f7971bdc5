"""Which shard holds a picture, a pair or a chain: an index of ids, so that a list of a few ids is compared
with millions of rows without reading their tables.

    item_index/images/state.json       shards with the version of their tables, and the segment they are in
    item_index/images/segments/00000   rows (key, shard): the first 64 bits of an id, and a shard's number
    item_index/images/prints/00000     rows (phash, shard): perceptual hashes of the segment's pictures

A segment holds the shards that were new or changed when it was written; a shard counts where it was written
last. Many segments become one. Ids as such are not kept.

Belongs here: bringing the index up to date, and looking ids up. Not here: what is done with the shards found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl

from got_core.corpus.hamming import nearest
from got_core.storage import Storage

FOLDER = "item_index"
Kind = Literal["images", "edits"]
ID_COLUMNS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "images": {"raw_images": ("image_id",), "t2i_chains": ("chain_id",)},
    "edits": {"edit_pairs": ("pair_id", "source_id", "target_id"), "edit_chains": ("chain_id",)},
}
"""Tables of a shard whose ids are in the index, with their columns."""

PRINT_COLUMNS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "images": ("raw_images", ("phash",)),
    "edits": ("edit_pairs", ("source_phash", "target_phash")),
}
"""The table of a shard with perceptual hashes, and its columns."""

_FORMAT = 2
"""Of what is stored; an index of another one is made again."""
_KEYS = {"key": pl.UInt64(), "shard": pl.UInt32()}
_PRINTS = {"phash": pl.UInt64(), "shard": pl.UInt32()}
_HEX = r"^[0-9a-f]{16}"
_READERS = 16
_MAX_SEGMENTS = 16


@dataclass(frozen=True, kw_only=True)
class ItemIndex:
    """The index of one kind of shards as it is stored."""

    storage: Storage
    kind: Kind
    names: tuple[str, ...] = ()
    """Shards by number."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Version of each shard's tables, as they were when it was indexed."""
    segments: Mapping[str, int] = field(default_factory=dict)
    """Segment that holds each shard."""

    def places(self, ids: Iterable[str]) -> pl.DataFrame:
        """Columns id and shard: every shard that holds an id, sorted. Ids in no shard have no row."""
        wanted = _keyed(pl.Series("id", list(dict.fromkeys(ids)), dtype=pl.String))
        rows = self.rows(wanted["key"])
        found = wanted.join(rows, on="key", how="inner").select("id", "shard")
        return found.unique().sort("id", "shard")

    def rows(self, keys: pl.Series | None = None) -> pl.DataFrame:
        """Columns key and shard (its name), of these keys or of all."""
        parts = [self._segment(number, keys) for number in sorted(set(self.segments.values()))]
        frame = pl.concat([pl.DataFrame(schema=_KEYS), *parts])
        names = pl.Series("shard", self.names, dtype=pl.String)
        return frame.select("key", names.gather(frame["shard"]))

    def shards_near(self, hashes: np.ndarray, distance: int) -> set[str]:
        """Shards with a picture whose perceptual hash differs from one of these (uint64) in so many bits at
        most."""
        found: set[str] = set()
        for number in sorted(set(self.segments.values())) if len(hashes) else ():
            frame = self._valid(self.storage.read_table(_prints_name(self.kind, number)), number)
            distinct = frame["phash"].unique()
            near = distinct.filter(pl.Series(nearest(distinct.to_numpy(), hashes, distance) >= 0))
            shards = frame.filter(pl.col("phash").is_in(near.implode()))["shard"].unique()
            found |= {self.names[shard] for shard in shards}
        return found

    def _segment(self, number: int, keys: pl.Series | None) -> pl.DataFrame:
        scan = self.storage.scan_table(_segment_name(self.kind, number))
        if keys is not None:
            scan = scan.filter(pl.col("key").is_in(keys.implode()))
        return self._valid(scan.collect(), number)

    def _valid(self, rows: pl.DataFrame, number: int) -> pl.DataFrame:
        """Rows of the shards that count where they stand in this segment."""
        valid = [row for row, name in enumerate(self.names) if self.segments.get(name) == number]
        return rows.filter(pl.col("shard").is_in(valid))


def update_index(
    storage: Storage, kind: Kind, versions: Mapping[str, str], notice: Callable[[str], None] | None = None
) -> ItemIndex:
    """The index with these shards at these versions of their tables; only what changed is read and written.

    `versions`: by shard, anything that changes with its tables. Shards that are not named are dropped.
    Two processes that update at once may lose each other's work, which the next update does again. `notice`
    gets a line where there is no index, or an older one, so that all shards have to be read.
    """
    index = _stored(storage, kind)
    if notice and versions and not index.versions:
        notice(
            f"the index of {kind} is missing or of an older form: all {len(versions)} shards are read once"
        )
    changed = sorted(shard for shard, version in versions.items() if index.versions.get(shard) != version)
    kept = {shard: index.versions[shard] for shard in versions if shard in index.versions}
    if not changed and kept.keys() == index.versions.keys():
        return index
    names = (*index.names, *(shard for shard in changed if shard not in index.names))
    segments = {shard: index.segments[shard] for shard in kept if shard not in changed}
    if changed:
        number = max(index.segments.values(), default=-1) + 1
        _write_segment(storage, kind, number, *_shard_rows(storage, kind, changed, names))
        segments |= dict.fromkeys(changed, number)
    fresh = ItemIndex(
        storage=storage, kind=kind, names=names, versions=kept | _of(versions, changed), segments=segments
    )
    return _compacted(fresh) if len(set(segments.values())) > _MAX_SEGMENTS else _written(fresh)


def keys_of(ids: pl.Series) -> pl.Series:
    """The 64 bits by which ids are compared: their first 16 hex digits, or of a hash where they have none."""
    digits = ids.str.extract(f"({_HEX})", 1).str.to_integer(base=16, dtype=pl.UInt64, strict=False)
    if digits.null_count() == 0:
        return digits
    other = [None if one is None else _hashed(one) for one in ids.filter(digits.is_null())]
    return digits.scatter(digits.is_null().arg_true(), pl.Series(other, dtype=pl.UInt64))


def _keyed(ids: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"id": ids, "key": keys_of(ids)})


def _hashed(one: str) -> int:
    return int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "big")


def _of(versions: Mapping[str, str], shards: Iterable[str]) -> dict[str, str]:
    return {shard: versions[shard] for shard in shards}


def _shard_rows(
    storage: Storage, kind: Kind, shards: list[str], names: tuple[str, ...]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Columns key and shard, and columns phash and shard, of whole shards."""
    numbers = {name: number for number, name in enumerate(names)}

    def read(shard: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        number = pl.lit(numbers[shard], pl.UInt32).alias("shard")
        keys = [pl.Series(dtype=pl.UInt64), *_ids(storage, kind, shard)]
        prints = [pl.Series(dtype=pl.UInt64), *_hashes(storage, kind, shard)]
        ids = pl.DataFrame({"key": pl.concat(keys).unique()})
        return ids.with_columns(number), pl.DataFrame({"phash": pl.concat(prints).unique()}).with_columns(
            number
        )

    with ThreadPoolExecutor(_READERS) as pool:
        found = [*pool.map(read, shards)]
    ids, prints = zip((pl.DataFrame(schema=_KEYS), pl.DataFrame(schema=_PRINTS)), *found, strict=True)
    return pl.concat(ids), pl.concat(prints)


def _ids(storage: Storage, kind: Kind, shard: str) -> Iterable[pl.Series]:
    for table, columns in ID_COLUMNS[kind].items():
        try:
            frame = storage.scan_table(f"{table}/{shard}").select(columns).collect()
        except FileNotFoundError:
            continue  # not made yet, or lost: it has another version once it is there
        yield from (keys_of(frame[column].drop_nulls()) for column in columns)


def _hashes(storage: Storage, kind: Kind, shard: str) -> Iterable[pl.Series]:
    table, columns = PRINT_COLUMNS[kind]
    try:
        scan = storage.scan_table(f"{table}/{shard}")
    except FileNotFoundError:
        return
    there = [column for column in columns if column in scan.collect_schema()]
    frame = scan.select(there).collect()
    for column in there:
        yield frame[column].drop_nulls().str.to_integer(base=16, dtype=pl.UInt64, strict=False).drop_nulls()


def _compacted(index: ItemIndex) -> ItemIndex:
    """All shards in one new segment; those of before are deleted last."""
    before = sorted(set(index.segments.values()))
    rows = pl.concat([index._segment(number, None) for number in before])
    tables = ((one, index.storage.read_table(_prints_name(index.kind, one))) for one in before)
    prints = pl.concat([index._valid(table, one) for one, table in tables])
    number = before[-1] + 1
    _write_segment(index.storage, index.kind, number, rows, prints)
    whole = ItemIndex(
        storage=index.storage, kind=index.kind, names=index.names, versions=index.versions,
        segments=dict.fromkeys(index.segments, number),
    )  # fmt: skip
    _written(whole)
    for one in before:
        index.storage.delete(_segment_name(index.kind, one))
        index.storage.delete(_prints_name(index.kind, one))
    return whole


def _stored(storage: Storage, kind: Kind) -> ItemIndex:
    """An index that is not there, or cannot be understood, is an empty one: it is made again."""
    try:
        state: dict[str, Any] = storage.read_json(_state_name(kind))
        if state["format"] != _FORMAT:
            return ItemIndex(storage=storage, kind=kind)
        return ItemIndex(
            storage=storage, kind=kind, names=tuple(state["names"]), versions=state["versions"],
            segments=state["segments"],
        )  # fmt: skip
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ItemIndex(storage=storage, kind=kind)


def _written(index: ItemIndex) -> ItemIndex:
    state = {
        "format": _FORMAT, "names": index.names, "versions": index.versions, "segments": index.segments,
    }  # fmt: skip
    index.storage.write_json(_state_name(index.kind), state)
    return index


def _write_segment(
    storage: Storage, kind: Kind, number: int, rows: pl.DataFrame, prints: pl.DataFrame
) -> None:
    storage.write_table(_prints_name(kind, number), prints.sort("phash", "shard"))
    storage.write_table(_segment_name(kind, number), rows.sort("key", "shard"))


def _state_name(kind: Kind) -> str:
    return f"{FOLDER}/{kind}/state.json"


def _segment_name(kind: Kind, number: int) -> str:
    return f"{FOLDER}/{kind}/segments/{number:05d}"


def _prints_name(kind: Kind, number: int) -> str:
    return f"{FOLDER}/{kind}/prints/{number:05d}"
