"""Durable lists of what belongs to which shard.

Belongs here: appending raw files and pair-table rows that are not listed yet as new shards. A list that
exists never changes, so a partition always means the same input. Does not belong here: finding raw files
(``listing``), opening pictures (``ingest``).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import fsspec
import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.inputs import inputs_of
from got_core.corpus.listing import list_input
from got_core.corpus.schemas import EDIT_LIST, IMAGE_LIST, Columns, polars_schema
from got_core.storage import Storage, local_path

Kind = Literal["images", "edits"]

IMAGE_KEY = ["path", "bytes", "modified", "first"]
EDIT_KEY = ["source", "target", "instruction", "licence", "source_name"]
_PASSED_OVER = "shards/passed_over.json"
_REQUIRED = ("source", "target", "instruction")
_TAR_BYTES_A_PICTURE = 100_000
"""A guess that decides only how many small tars make up a shard."""


def shard_names(storage: Storage, kind: Kind) -> list[str]:
    """Names of the shards assigned so far ("images-00000" ...), sorted."""
    names = storage.list(f"shards/{kind}-")
    return [PurePosixPath(name).stem for name in names if name.endswith(".parquet")]


def read_shard(storage: Storage, shard: str) -> pl.DataFrame:
    """A shard's list (:data:`IMAGE_LIST` or :data:`EDIT_LIST`). Raises FileNotFoundError if not assigned."""
    frame = storage.read_table(f"shards/{shard}")
    if shard.startswith("images-") and "kind" not in frame.columns:  # listed when there were only files
        new = {name: dtype for name, (dtype, _) in IMAGE_LIST.items() if name not in frame.columns}
        frame = frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in new.items())
        return frame.with_columns(kind=pl.lit("file"))
    return frame


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
        ValueError: it cannot be read, or lacks a column; the message names the file and the column.
    """
    found = read_pair_table(edits_url, fs_options)
    return _append(storage, "edits", found, EDIT_KEY, EDIT_LIST, config.edit_shard_size)


def _append(
    storage: Storage, kind: Kind, found: pl.DataFrame, key: list[str], columns: Columns, size: int
) -> list[str]:
    while True:
        names = shard_names(storage, kind)
        new = found.join(
            _listed(storage, names, key, columns), on=key, how="anti", nulls_equal=True, maintain_order="left"
        )
        if new.is_empty():
            return names
        number = 1 + int(names[-1].rpartition("-")[2]) if names else 0
        try:
            for index, part in enumerate(_cut(new, size)):
                storage.write_table(f"shards/{kind}-{number + index:05d}", part, exclusive=True)
        except FileExistsError:
            continue  # another process assigned at the same moment: look again at what is left
        return shard_names(storage, kind)


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


# The pair table


def read_pair_table(edits_url: str, fs_options: dict | None = None) -> pl.DataFrame:
    """The pair table as :data:`EDIT_LIST`: text stripped, empty cells null, equal rows folded, in order.

    CSV (UTF-8, with header) or parquet by the name's ending; columns source, target, instruction and,
    optionally, licence and source_name.

    Raises:
        FileNotFoundError, ValueError: as :func:`assign_edit_shards`.
    """
    frame = _read_frame(edits_url, fs_options or {})
    missing = [name for name in _REQUIRED if name not in frame.columns]
    if missing:
        raise ValueError(
            f"pair table {edits_url} has no column {', '.join(missing)}; it needs {', '.join(_REQUIRED)} "
            f"(licence and source_name are optional) and has {', '.join(frame.columns) or 'none'}"
        )
    text = [_text_column(frame, name) for name in EDIT_KEY]
    cleaned = frame.select(text).with_row_index("row", offset=1)
    folded = cleaned.group_by(EDIT_KEY, maintain_order=True).agg(
        pl.col("row").first(), pl.len().alias("rows")
    )
    return folded.sort("row").select(pl.col(name).cast(dtype) for name, (dtype, _) in EDIT_LIST.items())


def _text_column(frame: pl.DataFrame, name: str) -> pl.Expr:
    if name not in frame.columns:
        return pl.lit(None, pl.String).alias(name)
    stripped = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(stripped != "").then(stripped).alias(name)


def _read_frame(edits_url: str, fs_options: dict) -> pl.DataFrame:
    fs, path = fsspec.core.url_to_fs(str(local_path(edits_url) or edits_url), **fs_options)
    try:
        data = io.BytesIO(fs.cat_file(path))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(
            f"pair table {edits_url} does not exist; set GOT_EDITS to a CSV or parquet"
        ) from error
    try:
        if path.endswith(".parquet"):
            return pl.read_parquet(data)
        return pl.read_csv(data, infer_schema=False)
    except pl.exceptions.NoDataError as error:
        raise ValueError(
            f"pair table {edits_url} is empty; it needs a header: {','.join(_REQUIRED)}"
        ) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"pair table {edits_url} cannot be read: {reason}; it must be UTF-8 CSV or parquet"
        ) from error
