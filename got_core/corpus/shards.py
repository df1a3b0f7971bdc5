"""Durable lists of what belongs to which shard.

Belongs here: appending raw files and pair-table rows that are not listed yet as new shards. A list that
exists never changes, so a partition always means the same input. Does not belong here: finding raw files
(``listing``), opening pictures (``ingest``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.inputs import inputs_of
from got_core.corpus.listing import list_input
from got_core.corpus.pair_table import EDIT_KEY, read_pair_table
from got_core.corpus.schemas import EDIT_LIST, IMAGE_LIST, Columns, polars_schema
from got_core.storage import Storage

Kind = Literal["images", "edits"]

IMAGE_KEY = ["path", "bytes", "modified", "first", "etag"]
_PASSED_OVER = "shards/passed_over.json"
_TAR_BYTES_A_PICTURE = 100_000
"""A guess that decides only how many small tars make up a shard."""


def shard_names(storage: Storage, kind: Kind) -> list[str]:
    """Names of the shards assigned so far ("images-00000" ...), sorted."""
    names = storage.list(f"shards/{kind}-")
    return [PurePosixPath(name).stem for name in names if name.endswith(".parquet")]


def read_shard(storage: Storage, shard: str) -> pl.DataFrame:
    """A shard's list (:data:`IMAGE_LIST` or :data:`EDIT_LIST`). Raises FileNotFoundError if not assigned."""
    frame = storage.read_table(f"shards/{shard}")
    columns = IMAGE_LIST if shard.startswith("images-") else EDIT_LIST
    new = {name: dtype for name, (dtype, _) in columns.items() if name not in frame.columns}  # an older list
    frame = frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in new.items())
    return frame.with_columns(kind=pl.lit("file")) if "kind" in new else frame


def assign_image_shards(
    storage: Storage, raw_url: str, config: IngestConfig, fs_options: dict | None = None
) -> list[str]:
    """Append what no shard lists yet (files by path, size and time of change; URLs by themselves) as new
    shards; a shard holds entries of one input.

    Every file of a folder with a picture's name counts (see ``sieve``); what cannot be read as one (folders
    that may not be listed or lie behind links that lead out, names that are not UTF-8) is listed with its
    problem, so that it too ends in quarantine. What is no input is only counted: :func:`passed_over`.
    A tar is one entry; a parquet file with pictures one for each part of a shard's size. Two processes may
    assign at the same moment; nothing is listed twice.

    Returns:
        The names of all image shards, sorted.

    Raises:
        FileNotFoundError: the raw folder, archive, table or list does not exist, or no name fits the pattern.
        NotADirectoryError: the raw folder is a file.
        ValueError: a list of inputs or a table that cannot be used; the message names the file.
    """
    counts: Counter[str] = Counter()
    for one in inputs_of(raw_url, fs_options):
        listing = list_input(one, config)
        _append(storage, "images", listing.found, IMAGE_KEY, IMAGE_LIST, config.image_shard_size)
        counts.update(listing.passed_over)
    if counts != passed_over(storage):
        storage.write_json(_PASSED_OVER, counts)
    return shard_names(storage, "images")


def passed_over(storage: Storage) -> dict[str, int]:
    """How many files the latest listing of images found that are no input, by kind (see ``sieve``)."""
    try:
        return storage.read_json(_PASSED_OVER)
    except FileNotFoundError:
        return {}


def assign_edit_shards(
    storage: Storage, edits_url: str, config: IngestConfig, fs_options: dict | None = None
) -> list[str]:
    """Append rows of the pair table that no shard lists yet (by content) as new shards, in the table's order.

    Rows of equal content are listed once, with their number.

    Returns:
        The names of all edit shards, sorted.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: as :func:`got_core.corpus.pair_table.read_pair_table`.
    """
    found = read_pair_table(edits_url, fs_options)
    return _append(storage, "edits", found, EDIT_KEY, EDIT_LIST, config.edit_shard_size)


def _append(
    storage: Storage, kind: Kind, found: pl.DataFrame, key: list[str], columns: Columns, size: int
) -> list[str]:
    while True:
        names = shard_names(storage, kind)
        new = _unlisted(found, _listed(storage, names, key, columns), key)
        if new.is_empty():
            return names
        number = 1 + int(names[-1].rpartition("-")[2]) if names else 0
        try:
            for index, part in enumerate(_cut(new, size)):
                storage.write_table(f"shards/{kind}-{number + index:05d}", part, exclusive=True)
        except FileExistsError:
            continue  # another process assigned at the same moment: look again at what is left
        return shard_names(storage, kind)


def _unlisted(found: pl.DataFrame, listed: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Rows of `found` that no list has. Where a list has no tag of the content, the rest decides."""
    new = found.join(listed, on=key, how="anti", nulls_equal=True, maintain_order="left")
    if "etag" not in key:
        return new
    rest = [name for name in key if name != "etag"]
    untagged = listed.filter(pl.col("etag").is_null())
    return new.join(untagged, on=rest, how="anti", nulls_equal=True, maintain_order="left")


def _cut(frame: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
    """Slices of about `size` pictures each: an entry that holds many counts as many."""
    start, filled = 0, 0
    for index, weight in enumerate(_weights(frame)):
        if filled and filled + weight > size:
            yield frame.slice(start, index - start)
            start, filled = index, 0
        filled += weight
    yield frame.slice(start)


def _weights(frame: pl.DataFrame) -> list[int]:
    if "kind" not in frame.columns:
        return [1] * frame.height
    tars = pl.when(pl.col("kind") == "tar").then(pl.col("bytes") // _TAR_BYTES_A_PICTURE)
    return frame.select(pl.max_horizontal(pl.coalesce("count", tars, 1), 1)).to_series().to_list()


def _listed(storage: Storage, names: list[str], key: list[str], columns: Columns) -> pl.DataFrame:
    empty = pl.DataFrame(schema=polars_schema(columns)).select(key)
    return pl.concat([empty, *(read_shard(storage, name).select(key) for name in names)])
