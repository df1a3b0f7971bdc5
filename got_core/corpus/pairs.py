"""Rows of the pair table to the table of edit pairs, one shard at a time.

Belongs here: the fate of every listed pair (good, folded into an equal one, or quarantined with a reason).
Does not belong here: cutting shards (``shards``), opening one file (``inspection``).
"""

from __future__ import annotations

import hashlib
import posixpath
from functools import partial
from typing import Any

import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.inspection import Inspected, Progress, bounded_map, inspect_file
from got_core.corpus.reader import ImageReader
from got_core.corpus.refused import NOTHING, REASON, Refused
from got_core.corpus.schemas import EDIT_PAIRS, frame_of
from got_core.corpus.shards import read_shard
from got_core.storage import Storage, local_path


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
    refused: Refused = NOTHING,
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
    inspect = partial(_inspect_pair, reader, refused)
    pairs = bounded_map(inspect, entries, config, len(entries), progress)
    rows = [_pair_row(entry, *pair, config) for entry, pair in zip(entries, pairs, strict=True)]
    rows = [_refused_row(row) if row["pair_id"] in refused.ids else row for row in rows]
    return frame_of(_fold_pairs(rows), EDIT_PAIRS).sort(
        "source_path", "target_path", "instruction", "pair_id"
    )


def _inspect_pair(
    reader: ImageReader, refused: Refused, entry: dict[str, Any]
) -> tuple[Inspected, Inspected]:
    missing = ImageError("incomplete_row", "no path")
    source, target = (
        refused.checked(inspect_file(reader, entry[side]), partial(reader.open, entry[side]))
        if entry[side]
        else Inspected(error=missing)
        for side in ("source", "target")
    )
    return source, target


def _pair_row(
    entry: dict[str, Any], source: Inspected, target: Inspected, config: IngestConfig
) -> dict[str, Any]:
    error = _pair_error(entry, source, target, config)
    instruction = entry["instruction"] or entry["problem"]
    names = (source.image_id or entry["source"], target.image_id or entry["target"], instruction)
    return {
        "pair_id": hashlib.sha256("|".join(name or "" for name in names).encode()).hexdigest(),
        "source_id": source.image_id,
        "target_id": target.image_id,
        "source_path": entry["source"],
        "target_path": entry["target"],
        "instruction": entry["instruction"],
        "source_phash": source.print.phash if source.print else None,
        "target_phash": target.print.phash if target.print else None,
        "source_colors": source.print.colors.tobytes() if source.print else None,
        "target_colors": target.print.colors.tobytes() if target.print else None,
        "width": source.width,
        "height": source.height,
        "target_width": target.width,
        "target_height": target.height,
        "source": entry["source_name"] or config.source,
        "licence": entry["licence"] or config.licence,
        "rows": entry["rows"],
        "error": str(error) if error else None,
        "reason": error.reason if error else None,
    }


def _refused_row(row: dict[str, Any]) -> dict[str, Any]:
    """A pair that is on the takedown list itself, without its ids and fingerprints."""
    names = (row["source_path"], row["target_path"], row["instruction"])
    error = ImageError(REASON, "the pair is on the takedown list")
    sides = (
        "source_id",
        "target_id",
        *(f"{s}_{p}" for s in ("source", "target") for p in ("phash", "colors")),
    )
    pair_id = hashlib.sha256("|".join(name or "" for name in names).encode()).hexdigest()
    return row | dict.fromkeys(sides) | {"pair_id": pair_id, "error": str(error), "reason": error.reason}


def _pair_error(
    entry: dict[str, Any], source: Inspected, target: Inspected, config: IngestConfig
) -> ImageError | None:
    if entry["problem"]:
        reason, _, detail = entry["problem"].partition(": ")
        return ImageError(reason, detail)
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
