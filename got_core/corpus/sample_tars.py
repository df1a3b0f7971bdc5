"""Reading samples of training shards: WebDataset tars with an index, a sample at a time and in any order.

    training_shards/<shard>/00000.parquet            index of part 0: one row a sample (SHARD_INDEX)
    training_shards/<shard>/00000-<hash>.tar         its samples, one after the other

Belongs here: where a sample lies, and its bytes. Not here: writing and removing (`curate.training_shards`).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from got_core.corpus.schemas import SHARD_INDEX, frame_of
from got_core.corpus.tar_storage import TarStorage
from got_core.storage import Storage

FOLDER = "training_shards"
END = bytes(2 * tarfile.BLOCKSIZE)
"""What a tar ends with."""


def read_index(storage: Storage, shards: Collection[str] | None = None) -> pl.DataFrame:
    """SHARD_INDEX of the given shards (default: all that there are)."""
    names = indexes(storage)
    if shards is not None:
        names = [name for name in names if PurePosixPath(name).parent.name in shards]
    return stacked(storage.read_table(name) for name in names)


def read_sample(storage: Storage, row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample by its row of the index: the JSON's fields, `image` and, for edits, `source_image` as bytes.

    Reads that sample's bytes only. Raises ValueError where the row is in no tar, or the tar does not hold it.
    """
    if row["tar"] is None:
        why = row["error"] or "its picture lies in a tar given as input; GOT_REPACK_TARS=1 writes it again"
        raise ValueError(f"sample {row['sample_id']} is in no tar: {why}")
    data = TarStorage(storage).read(row["tar"], row["offset"], row["size"])
    found: dict[str, Any] = {}
    for ending, member in sample_members(data, row["sample_id"], row["tar"], row["size"]):
        if ending == "json":
            found |= json.loads(member)
        else:
            found["source_image" if ending.startswith("source.") else "image"] = member
    return found


def sample_members(data: bytes, sample_id: str, tar: str, size: int) -> Iterator[tuple[str, bytes]]:
    """Endings (`json`, `jpg`, `source.jpg` ...) and bytes of the members that a sample of a tar consists of.

    Raises ValueError where these are not `size` bytes of that sample.
    """
    if len(data) != size:
        raise ValueError(f"{tar} is shorter than its index says; write the shard again")
    try:
        with tarfile.open(fileobj=io.BytesIO(data + END), mode="r:") as opened:
            for member in opened:
                key, _, ending = member.name.partition(".")
                file = opened.extractfile(member)
                if key != sample_id or file is None:
                    raise ValueError(f"{tar} holds {member.name!r} where its index says {sample_id}")
                yield ending, file.read()
    except tarfile.TarError as error:
        raise ValueError(f"{tar} holds no sample where its index says {sample_id}: {error}") from error


def indexes(storage: Storage, folder: str = FOLDER) -> list[str]:
    """Names of the indexes below a folder, as tables of the storage."""
    return [name.removesuffix(".parquet") for name in storage.list(f"{folder}/") if name.endswith(".parquet")]


def stacked(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Indexes as one SHARD_INDEX."""
    return pl.concat([frame_of([], SHARD_INDEX), *frames])
