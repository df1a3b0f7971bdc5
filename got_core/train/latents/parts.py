"""Latents of a shard's samples, in parts with an index.

    latent_shards/<key>/<shard>/00000.parquet              index of part 0: one row a sample
    latent_shards/<key>/<shard>/00000-<hash>.safetensors   the samples' blocks, one after the other

A file is named by its content and the index names the file, so an index never speaks of another file than it
was made with: the file is written first, then the index, then what no index names is deleted. A sample stays
in its part, new ones go into new parts, and a removal rewrites only the parts it is in.

Belongs here: parts, their index, removal. Not here: making latents (``got_core.train.encoding``), reading
them for training (``got_core.train.data``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from got_core.corpus.schemas import Columns, frame_of
from got_core.storage import TABLE_SUFFIX, Storage
from got_core.train.latents.blocks import Entry, StoredLatents, entries_of, unpack
from got_core.train.latents.files import SUFFIX, LatentFiles
from got_core.train.latents.key import FOLDER

_SHARD = re.compile(r"[A-Za-z0-9_-]{1,128}")
_IDS = ("sample_id", "image_id", "source_id", "pair_id")
_DIGESTED = ("kind", "chain", "image_id", "source_id", "target_path", "source_path")

LATENT_INDEX: Columns = {
    "sample_id": (pl.String(), "chain_id"),
    "kind": (pl.String(), "t2i or edit"),
    "image_id": (pl.String(), "SHA-256 of the target image's bytes"),
    "source_id": (pl.String(), "SHA-256 of the source image's bytes; null for t2i"),
    "pair_id": (pl.String(), "id of the edit pair; null for t2i"),
    "width": (pl.Int32(), "pixels of the training picture"),
    "height": (pl.Int32(), "pixels of the training picture"),
    "file": (pl.String(), "storage name of the file; null where the picture cannot be read"),
    "offset": (pl.Int64(), "byte of the file at which the sample's block begins"),
    "size": (pl.Int64(), "bytes of the block"),
    "digest": (pl.String(), "of what the latents were made of: a changed row is made again"),
    "error": (pl.String(), "why there are none (reason: detail); null = fine"),
    "reason": (pl.String(), "the short reason alone; null = fine"),
}


class Placed(NamedTuple):
    """A sample on its way into a part: its row of the index without its place, and its block's entries; none
    where there is an error."""

    row: dict[str, Any]
    entries: list[Entry]


class Removed(NamedTuple):
    """What a removal did."""

    samples: list[str]
    """sample_ids that are gone, once for each key."""
    rewritten: list[str]
    """Indexes (storage names) that were rewritten."""


def row_digest(row: Mapping[str, Any]) -> str:
    """Of what a sample's latents follow from in its row of the manifest. Sizes follow from the bytes that
    the ids name, and prompts are not stored."""
    made_of = {name: row.get(name) for name in _DIGESTED}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def shard_folder(key_folder: str, shard: str) -> str:
    """Folder of a shard's parts. Raises ValueError for a shard that cannot name one."""
    if not _SHARD.fullmatch(shard):
        raise ValueError(f"shard {shard!r} cannot name a folder")
    return f"{key_folder}/{shard}"


def indexes(storage: Storage, folder: str) -> list[str]:
    """Names of all indexes below a folder, in order."""
    names = storage.list(f"{folder}/") if storage.exists(folder) else []
    return [name.removesuffix(TABLE_SUFFIX) for name in names if name.endswith(TABLE_SUFFIX)]


def read_index(storage: Storage, folder: str) -> pl.DataFrame:
    """LATENT_INDEX of all parts below a folder: of a shard, or of a key."""
    return stacked(storage.read_table(name) for name in indexes(storage, folder))


def stacked(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Indexes as one; an empty one where there is none."""
    return pl.concat([frame_of([], LATENT_INDEX), *frames])


def read_latents(storage: Storage, row: Mapping[str, Any]) -> StoredLatents:
    """A sample by its row of the index. Reads that sample's bytes only.

    Raises FileNotFoundError where its file is gone, ValueError where it is in none, or another one is there.
    """
    if row["file"] is None:
        raise ValueError(f"sample {row['sample_id']} has no latents: {row['error']}")
    block = LatentFiles(storage).array(row["file"], row["offset"], row["size"])
    return checked(block, row)


def checked(block: np.ndarray, row: Mapping[str, Any]) -> StoredLatents:
    """The sample of a block, uint8 (n,), that a row of the index speaks of. Raises ValueError."""
    if len(block) != row["size"]:
        raise ValueError(f"{row['file']} is shorter than its index says; have its shard written again")
    found = unpack(block)
    if found.sample_id != row["sample_id"]:
        raise ValueError(f"{row['file']} holds {found.sample_id!r} where its index says {row['sample_id']!r}")
    return found


def write_part(storage: Storage, name: str, samples: Iterable[Placed]) -> pl.DataFrame:
    """Write the file of a part, then its index, which is returned."""
    files, rows = LatentFiles(storage), []
    with files.new(name) as new:
        for sample in samples:
            place: dict[str, Any] = {"file": None, "offset": None, "size": None}
            if sample.entries:
                offset, size = new.add(sample.row["sample_id"], sample.entries)
                place = {"offset": offset, "size": size}
            rows.append(sample.row | place)
        if new.written:
            stored, begin = files.publish(new, name)
            rows = [
                row if row["size"] is None else row | {"file": stored, "offset": begin + row["offset"]}
                for row in rows
            ]
    index = frame_of([{column: row.get(column) for column in LATENT_INDEX} for row in rows], LATENT_INDEX)
    storage.write_table(name, index)
    return index


def covered(storage: Storage, index: pl.DataFrame) -> bool:
    """Whether the index speaks of every block of its file: where a row was taken out of the index alone, the
    file still holds that sample."""
    held = index.drop_nulls("file").sort("offset")
    if held.is_empty():
        return True
    ends = (held["offset"] + held["size"]).to_list()
    files, name = LatentFiles(storage), held["file"][0]
    if files.size(name) != ends[-1] or held["offset"].to_list()[1:] != ends[:-1]:
        return False
    length = int.from_bytes(files.array(name, 0, 8).tobytes(), "little")
    return held["offset"][0] == 8 + length


def present(storage: Storage, index: pl.DataFrame) -> pl.DataFrame:
    """The rows of a part's index without those whose file somebody has deleted."""
    files = LatentFiles(storage)
    lost = [name for name in index["file"].drop_nulls().unique() if files.size(name) < 0]
    return index.filter(~pl.col("file").is_in(lost).fill_null(False))


def copied(storage: Storage, row: dict[str, Any]) -> Placed:
    """A sample of a part that stays as it is, for the part that takes its place.

    Raises as :func:`read_latents`.
    """
    if row["file"] is None:
        return Placed(row, [])
    block = LatentFiles(storage).array(row["file"], row["offset"], row["size"])
    checked(block, row)
    return Placed(row, entries_of(block))


def remove(storage: Storage, ids: Collection[str], shards: Collection[str] | None = None) -> Removed:
    """Remove every sample of which the image, source image, pair or sample id is among the ids, of all
    keys (of these shards).

    Only parts that hold one are rewritten, from their own files. May be stopped and called again at any
    moment; afterwards no file holds a removed sample.
    """
    removed_ids, removed = pl.Series(sorted(ids), dtype=pl.String).implode(), Removed([], [])
    keys = storage.folders(FOLDER)
    folders = [folder for key in keys for folder in storage.folders(key)]
    if shards is not None:
        folders = [one for one in folders if one.rpartition("/")[2] in set(shards)]
    for name in (one for folder in folders for one in indexes(storage, folder)):
        index = storage.read_table(name)
        hit = pl.any_horizontal(pl.col(column).is_in(removed_ids).fill_null(False) for column in _IDS)
        rows = index.filter(hit)
        if rows.height or not covered(storage, index):
            kept = present(storage, index.filter(~hit))
            write_part(storage, name, (copied(storage, row) for row in kept.to_dicts()))
            removed.samples.extend(rows["sample_id"])
            removed.rewritten.append(name)
    for folder in folders:
        sweep(storage, folder)  # also what a run that was stopped has left behind
    return removed


def sweep(storage: Storage, folder: str) -> None:
    """Delete files of a shard that no index names, and unfinished ones."""
    named = set(read_index(storage, folder)["file"].drop_nulls())
    for name in storage.list(f"{folder}/"):
        if name.endswith(SUFFIX) and name not in named:
            storage.delete(name)
    LatentFiles(storage).sweep(folder)


def part_number(name: str) -> int:
    """The number of a part by its index's name."""
    return int(PurePosixPath(name).name)
