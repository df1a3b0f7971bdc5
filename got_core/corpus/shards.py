"""Durable lists of what belongs to which shard.

Belongs here: reading lists, and a new one for what no list has yet. A list that exists never changes, so a
partition always means the same input. Does not belong here: finding raw files (``listing``, ``sweep``),
writing their lists (``appending``), opening pictures (``ingest``).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

import polars as pl

from got_core.corpus.appending import PASSED_OVER, cut
from got_core.corpus.config import IngestConfig
from got_core.corpus.pair_table import EDIT_KEY, read_pair_table
from got_core.corpus.schemas import EDIT_LIST, IMAGE_LIST, polars_schema
from got_core.corpus.sweep import sweep_all
from got_core.storage import Storage

Kind = Literal["images", "edits"]


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
    """Look through all inputs once and append what no shard lists yet as new shards.

    Files count by path, size and the store's tag of their content, or their time of change where there is
    none; URLs by themselves. A shard holds entries of one input. See ``sweep`` for the same in steps.

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
    sweep_all(storage, raw_url, config, fs_options)
    return shard_names(storage, "images")


def passed_over(storage: Storage) -> dict[str, int]:
    """How many files the latest listing of images found that are no input, by kind (see ``sieve``)."""
    try:
        return storage.read_json(PASSED_OVER)
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
    while True:
        names = shard_names(storage, "edits")
        new = found.join(
            _listed_pairs(storage, names), on=EDIT_KEY, how="anti", nulls_equal=True, maintain_order="left"
        )
        if new.is_empty():
            return names
        number = 1 + int(names[-1].rpartition("-")[2]) if names else 0
        try:
            for index, part in enumerate(cut(new, config.edit_shard_size)):
                storage.write_table(f"shards/edits-{number + index:05d}", part, exclusive=True)
        except FileExistsError:
            continue  # another process assigned at the same moment: look again at what is left
        return shard_names(storage, "edits")


def _listed_pairs(storage: Storage, names: list[str]) -> pl.DataFrame:
    empty = pl.DataFrame(schema=polars_schema(EDIT_LIST)).select(EDIT_KEY)
    return pl.concat([empty, *(read_shard(storage, name).select(EDIT_KEY) for name in names)])
