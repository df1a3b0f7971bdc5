"""Raw files to the tables of images and edit pairs, one shard at a time.

Belongs here: the fate of every listed file and pair (good, folded into an equal one, or quarantined with a
reason). Does not belong here: cutting shards (``shards``), opening one file (``reader``, ``decode``).
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError, decode_image, sniff_format
from got_core.corpus.duplicates import Fingerprint, fingerprint, near_duplicates
from got_core.corpus.reader import ImageReader, Stamp
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, frame_of
from got_core.corpus.shards import read_shard
from got_core.storage import Storage, local_path

__all__ = ["ImageReader", "edits_root", "ingest_edit_pairs", "ingest_images"]

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all), from the calling thread."""

T = TypeVar("T")
R = TypeVar("R")


class Inspected(NamedTuple):
    """What one file turned out to be; ``error`` is None for a good picture."""

    image_id: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    print: Fingerprint | None = None
    error: ImageError | None = None


def ingest_images(
    storage: Storage,
    raw_url: str,
    shard: str,
    config: IngestConfig,
    progress: Progress | None = None,
    fs_options: dict | None = None,
) -> pl.DataFrame:
    """Read, check and identify every file of an image shard.

    Returns:
        :data:`RAW_IMAGES`, sorted by path. Good files of equal bytes are one row with all their ``paths``; a
        quarantined file always has a row of its own, so ``paths`` of all rows together are the shard's files.

    Raises:
        FileNotFoundError: the shard was never assigned.
    """
    listed = read_shard(storage, shard)
    reader = ImageReader(raw_url, config, fs_options)
    entries = listed.rows(named=True)
    inspected = list(_bounded_map(partial(_inspect_entry, reader), entries, config, progress))
    rows = _fold_images(
        [_image_row(entry, one, config) for entry, one in zip(entries, inspected, strict=True)]
    )
    prints = {one.image_id: one.print for one in inspected if one.print}
    return frame_of(_mark_near_duplicates(rows, prints, config), RAW_IMAGES).sort("path")


def _inspect_entry(reader: ImageReader, entry: dict[str, Any]) -> Inspected:
    if entry["problem"]:
        reason, _, detail = entry["problem"].partition(": ")
        return Inspected(error=ImageError(reason, detail))
    return inspect_file(reader, entry["path"], Stamp(entry["bytes"], entry["modified"]))


def inspect_file(reader: ImageReader, path: str, expected: Stamp | None = None) -> Inspected:
    """Read and decode one file. Raises nothing for a bad file: the reason is in the result."""
    try:
        data = reader.read_bytes(path, expected)
    except ImageError as error:
        return Inspected(error=_bare(error))
    known = Inspected(image_id=hashlib.sha256(data).hexdigest(), format=sniff_format(data), bytes=len(data))
    try:
        picture = decode_image(data, reader.config)
    except ImageError as error:
        return known._replace(error=_bare(error))
    return known._replace(width=picture.width, height=picture.height, print=fingerprint(picture))


def _bare(error: ImageError) -> ImageError:
    # The traceback would keep the file's bytes and pixels in memory until the shard is done.
    return ImageError(error.reason, error.detail)


def _image_row(entry: dict[str, Any], one: Inspected, config: IngestConfig) -> dict[str, Any]:
    return {
        "image_id": one.image_id,
        "path": entry["path"],
        "paths": [entry["path"]],
        "format": one.format,
        "width": one.width,
        "height": one.height,
        "bytes": entry["bytes"] if one.bytes is None else one.bytes,
        "phash": one.print.phash if one.print else None,
        "source": config.source,
        "licence": config.licence,
        "error": str(one.error) if one.error else None,
        "reason": one.error.reason if one.error else None,
    }


def _fold_images(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for good files of equal bytes, under the first path; quarantined files are never folded."""
    kept: list[dict[str, Any]] = []
    first: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["path"]):
        if row["error"] is None and row["image_id"] in first:
            first[row["image_id"]]["paths"].append(row["path"])
            continue
        kept.append(row)
        if row["error"] is None:
            first[row["image_id"]] = row
    return kept


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


def edits_root(edits_url: str) -> str:
    """The folder of the pair table, to which its paths are relative."""
    local = local_path(edits_url)
    return str(local.parent) if local else posixpath.dirname(edits_url)


def ingest_edit_pairs(
    storage: Storage,
    edits_url: str,
    shard: str,
    config: IngestConfig,
    progress: Progress | None = None,
    fs_options: dict | None = None,
) -> pl.DataFrame:
    """Read, check and identify both pictures of every pair of an edit shard.

    Returns:
        :data:`EDIT_PAIRS`, sorted by source path, target path and instruction. Pairs of equal images and
        instruction are one row; ``rows`` of all rows together is the number of the pair table's rows.

    Raises:
        FileNotFoundError: the shard was never assigned.
    """
    entries = read_shard(storage, shard).rows(named=True)
    reader = ImageReader(edits_root(edits_url), config, fs_options)
    inspect = partial(_inspect_pair, reader)
    pairs = _bounded_map(inspect, entries, config, progress)
    rows = [_pair_row(entry, *pair, config) for entry, pair in zip(entries, pairs, strict=True)]
    return frame_of(_fold_pairs(rows), EDIT_PAIRS).sort(
        "source_path", "target_path", "instruction", "pair_id"
    )


def _inspect_pair(reader: ImageReader, entry: dict[str, Any]) -> tuple[Inspected, Inspected]:
    missing = ImageError("incomplete_row", "no path")
    source, target = (
        inspect_file(reader, entry[side]) if entry[side] else Inspected(error=missing)
        for side in ("source", "target")
    )
    return source._replace(print=None), target._replace(print=None)


def _pair_row(
    entry: dict[str, Any], source: Inspected, target: Inspected, config: IngestConfig
) -> dict[str, Any]:
    error = _pair_error(entry, source, target, config)
    names = (source.image_id or entry["source"], target.image_id or entry["target"], entry["instruction"])
    return {
        "pair_id": hashlib.sha256("|".join(name or "" for name in names).encode()).hexdigest(),
        "source_id": source.image_id,
        "target_id": target.image_id,
        "source_path": entry["source"],
        "target_path": entry["target"],
        "instruction": entry["instruction"],
        "width": source.width,
        "height": source.height,
        "source": entry["source_name"] or config.source,
        "licence": entry["licence"] or config.licence,
        "rows": entry["rows"],
        "error": str(error) if error else None,
        "reason": error.reason if error else None,
    }


def _pair_error(
    entry: dict[str, Any], source: Inspected, target: Inspected, config: IngestConfig
) -> ImageError | None:
    row = f"row {entry['row']}"
    empty = [name for name in ("source", "target", "instruction") if not entry[name]]
    if empty:
        return ImageError("incomplete_row", f"{row}: no {', no '.join(empty)}")
    for side, one in (("source", source), ("target", target)):
        if one.error:
            return ImageError(one.error.reason, f"{row}: {side} {entry[side]}: {one.error.detail}")
    if source.image_id == target.image_id:
        return ImageError("identical_images", f"{row}: {entry['source']} and {entry['target']}")
    return _unlike_aspect(row, source, target, config)


def _unlike_aspect(row: str, source: Inspected, target: Inspected, config: IngestConfig) -> ImageError | None:
    assert source.width and source.height and target.width and target.height
    ratio = (source.width * target.height) / (source.height * target.width)
    if max(ratio, 1 / ratio) - 1 <= config.max_pair_aspect_change:
        return None
    sizes = f"{source.width}x{source.height} and {target.width}x{target.height}"
    return ImageError("unlike_aspect", f"{row}: source and target are {sizes}")


def _fold_pairs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for good pairs of equal images and instruction; quarantined pairs are never folded."""
    kept: dict[Any, dict[str, Any]] = {}
    for index, row in enumerate(rows):
        key = row["pair_id"] if row["error"] is None else index
        if key in kept:
            kept[key]["rows"] += row["rows"]
        else:
            kept[key] = row
    return list(kept.values())


def _bounded_map(
    function: Callable[[T], R], items: Iterable[T], config: IngestConfig, progress: Progress | None
) -> Iterator[R]:
    """Results in order, from a thread pool (decoding and hashing release the interpreter lock).

    At most two items a thread are under way, so memory does not grow with the shard.
    """
    todo = list(items)
    workers = config.workers or min(8, os.cpu_count() or 1)
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for done in range(len(todo)):
            while len(pending) < 2 * workers and done + len(pending) < len(todo):
                pending.append(pool.submit(function, todo[done + len(pending)]))
            yield pending.popleft().result()
            if progress:
                progress(done + 1, len(todo))
