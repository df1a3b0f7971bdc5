"""An image shard's entries to the table of images.

Belongs here: the fate of every listed file, URL, archive member and table row (good, folded into an equal
one, or quarantined with a reason). Does not belong here: edit pairs (``pairs``), cutting shards (``shards``),
opening one file (``reader``, ``inspection``), getting bytes out of archives and off the net (``sources``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import closing
from functools import partial
from typing import Any

import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import MAY_PASS, decode_image
from got_core.corpus.duplicates import Fingerprint, near_duplicates
from got_core.corpus.inspection import Inspected, Progress, bounded_map, inspect_bytes, inspect_file
from got_core.corpus.members import Member
from got_core.corpus.pairs import edits_root, ingest_edit_pairs
from got_core.corpus.reader import ImageReader, Stamp
from got_core.corpus.refused import NOTHING, Refused
from got_core.corpus.restamped import with_stamps
from got_core.corpus.schemas import RAW_IMAGES, frame_of
from got_core.corpus.shards import read_shard
from got_core.corpus.sieve import Sieve
from got_core.corpus.sources import Entry, FetchLog, Item, items_of
from got_core.corpus.store import store_picture
from got_core.storage import Storage

__all__ = ["ImageReader", "edits_root", "ingest_edit_pairs", "ingest_images"]


def ingest_images(
    storage: Storage,
    raw_url: str,
    shard: str,
    config: IngestConfig,
    progress: Progress | None = None,
    fs_options: dict | None = None,
    passed_over: Counter[str] | None = None,
    refused: Refused = NOTHING,
) -> pl.DataFrame:
    """Read, check and identify everything that an image shard lists.

    Members of plain tars are left where they are, and read there (see ``members``). Other bytes that are no
    plain files are kept in the storage, once for each content; URLs that were fetched in an earlier run of
    the shard are not fetched again, those that failed are. What turns out to be no input (members of archives
    that are no pictures) is in no row; it is added to ``passed_over``, by kind. What is ``refused`` is
    quarantined without its id, and its bytes are not kept.

    Returns:
        :data:`RAW_IMAGES`, sorted by path. Good pictures of equal bytes are one row with all their ``paths``;
        a quarantined one always has a row of its own, so ``paths`` of all rows together are the shard's
        files, URLs, members and rows.

    Raises:
        FileNotFoundError: the shard was never assigned.
    """
    entries = with_stamps(storage, shard, read_shard(storage, shard)).rows(named=True)
    reader = ImageReader(raw_url, config, fs_options, store_url=storage.url, store_options=storage.fs_options)
    sieve = Sieve(config)
    rows, prints = [], {}
    # Closed at once when interrupted, or requests would go on in the background.
    with closing(_inspected(storage, shard, entries, reader, sieve, progress, refused)) as pictures:
        for item, path, one in pictures:
            rows.append(_image_row(item, path, one, config))
            if one.print:
                prints[one.image_id] = one.print
    if passed_over is not None:
        passed_over.update(sieve.counts)
    return frame_of(_mark_near_duplicates(_fold_images(rows), prints, config), RAW_IMAGES).sort(
        "path", "error"
    )


def _inspected(
    storage: Storage,
    shard: str,
    entries: list[Entry],
    reader: ImageReader,
    sieve: Sieve,
    progress: Progress | None,
    refused: Refused,
) -> Generator[tuple[Item, str, Inspected], None, None]:
    """Every picture of the entries: the item, the path that opens it, and what it is."""
    log, config = FetchLog(storage, shard), reader.config
    inspect = partial(_inspect, storage, reader, refused)
    expected = sum(entry["count"] or 1 for entry in entries)
    with closing(items_of(entries, reader, log, config, sieve)) as items:
        try:
            for item, path, one in bounded_map(inspect, items, config, expected, progress):
                log.record(item, path, one)
                yield item, path, one
        finally:
            log.flush()


def urls_to_retry(storage: Storage, shard: str) -> int:
    """How many URLs of a shard that was ingested failed for a reason that may pass; 0 if it was not yet."""
    if not storage.exists(f"raw_images/{shard}.parquet"):
        return 0
    return count_to_retry(storage.scan_table(f"raw_images/{shard}").select("reason").collect())


def count_to_retry(frame: pl.DataFrame) -> int:
    """How many rows of a raw image table failed for a reason that may pass."""
    return int(frame["reason"].is_in(list(MAY_PASS)).sum())


def _inspect(
    storage: Storage, reader: ImageReader, refused: Refused, item: Item
) -> tuple[Item, str, Inspected]:
    """The item without its bytes, the path that opens it, and what it is."""
    if item.error:
        return item, item.origin, Inspected(error=item.error)
    if item.data is None:
        stamp = Stamp(item.size or 0, item.modified, item.etag) if item.modified else None
        one = inspect_file(reader, item.path, stamp)
        return item, item.path, refused.checked(one, partial(reader.open, item.path))
    one = inspect_bytes(item.data, reader.config)
    one = refused.checked(one, partial(decode_image, item.data, reader.config))
    path = item.origin
    if one.error is None:
        path = _kept(storage, item, item.data, one)
    return item._replace(data=None), path, one


def _kept(storage: Storage, item: Item, data: bytes, one: Inspected) -> str:
    """The path that opens a good picture from now on: where it lies in a tar, else in the storage."""
    assert one.image_id and one.format
    if item.offset is not None:
        member = Member(item.path, item.name, item.offset, len(data), one.image_id)
        if member.has_path:
            return member.path
    return store_picture(storage, data, one.format)


def _image_row(item: Item, path: str, one: Inspected, config: IngestConfig) -> dict[str, Any]:
    return {
        "image_id": one.image_id,
        "path": path if one.error is None else item.origin,
        "paths": [item.origin],
        "format": one.format,
        "width": one.width,
        "height": one.height,
        "bytes": item.size if one.bytes is None else one.bytes,
        "phash": one.print.phash if one.print else None,
        "colors": one.print.colors.tobytes() if one.print else None,
        "source": item.source or config.source,
        "licence": item.licence or config.licence,
        "error": str(one.error) if one.error else None,
        "reason": one.error.reason if one.error else None,
    }


def _fold_images(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for good files of equal bytes, under the first path; quarantined files are never folded."""
    kept: list[dict[str, Any]] = []
    first: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["path"], row["paths"])):
        if row["error"] is None and row["image_id"] in first:
            _fold(first[row["image_id"]], row)
            continue
        kept.append(row)
        if row["error"] is None:
            first[row["image_id"]] = row
    return kept


def _fold(kept: dict[str, Any], row: dict[str, Any]) -> None:
    kept["paths"].extend(row["paths"])
    stated = [*(kept["licence"] or "").split("; "), *(row["licence"] or "").split("; ")]
    kept["licence"] = "; ".join(dict.fromkeys(filter(None, stated))) or None


def _mark_near_duplicates(
    rows: list[dict[str, Any]], prints: dict[str | None, Fingerprint], config: IngestConfig
) -> list[dict[str, Any]]:
    # The largest picture leads: it is the one worth keeping.
    good = [row for row in rows if row["error"] is None]
    good.sort(key=lambda row: (-row["width"] * row["height"], row["path"]))
    matches = near_duplicates(
        [prints[row["image_id"]] for row in good], config.near_duplicate_distance, config.near_duplicate_color
    )
    for row, match in zip(good, matches, strict=True):
        row["near_duplicate_of"] = None if match is None else good[match]["image_id"]
    return rows
