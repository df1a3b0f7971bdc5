"""Durable lists of what belongs to which shard.

Belongs here: listing raw files and pair-table rows, and appending those not listed yet as new shards. A list
that exists never changes, so a partition always means the same input. Does not belong here: opening pictures
(``got_core.corpus.ingest``).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Literal

import fsspec
import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.reader import EPOCH, Stamp, local_stamp, remote_stamp
from got_core.corpus.schemas import EDIT_LIST, IMAGE_LIST, Columns, frame_of, polars_schema
from got_core.storage import Storage, local_path

Kind = Literal["images", "edits"]

IMAGE_KEY = ["path", "bytes", "modified"]
EDIT_KEY = ["source", "target", "instruction", "licence", "source_name"]
_REQUIRED = ("source", "target", "instruction")


def shard_names(storage: Storage, kind: Kind) -> list[str]:
    """Names of the shards assigned so far ("images-00000" ...), sorted."""
    names = storage.list(f"shards/{kind}-")
    return [PurePosixPath(name).stem for name in names if name.endswith(".parquet")]


def read_shard(storage: Storage, shard: str) -> pl.DataFrame:
    """A shard's list (:data:`IMAGE_LIST` or :data:`EDIT_LIST`). Raises FileNotFoundError if not assigned."""
    return storage.read_table(f"shards/{shard}")


def assign_image_shards(
    storage: Storage, raw_url: str, config: IngestConfig, fs_options: dict | None = None
) -> list[str]:
    """Append files that no shard lists yet (by path, size and time of change) as new shards.

    Every file counts, whatever its name, except for ``config.ignore``; entries that cannot be files to read
    (linked or unreadable folders, names that are not UTF-8) are listed with their problem, so that they too
    end in quarantine. Two processes may assign at the same moment; no file is listed twice.

    Returns:
        The names of all image shards, sorted.

    Raises:
        FileNotFoundError: the raw folder does not exist.
        NotADirectoryError: it is a file.
    """
    rows = (
        _list_local(raw_url, config)
        if local_path(raw_url)
        else _list_remote(raw_url, config, fs_options or {})
    )
    found = frame_of(list(rows), IMAGE_LIST).sort(IMAGE_KEY)
    return _append(storage, "images", found, IMAGE_KEY, IMAGE_LIST, config.image_shard_size)


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
            for index, part in enumerate(new.iter_slices(size)):
                storage.write_table(f"shards/{kind}-{number + index:05d}", part, exclusive=True)
        except FileExistsError:
            continue  # another process assigned at the same moment: look again at what is left
        return shard_names(storage, kind)


def _listed(storage: Storage, names: list[str], key: list[str], columns: Columns) -> pl.DataFrame:
    empty = pl.DataFrame(schema=polars_schema(columns)).select(key)
    return pl.concat([empty, *(read_shard(storage, name).select(key) for name in names)])


# Listing files


def _list_local(raw_url: str, config: IngestConfig) -> Iterator[dict]:
    root = local_path(raw_url)
    assert root is not None
    if not root.exists():
        raise FileNotFoundError(
            f"the raw image folder {root} does not exist; set GOT_RAW to a folder of images"
        )
    if not root.is_dir():
        raise NotADirectoryError(
            f"the raw image folder {root} is a file; set GOT_RAW to the folder it lies in"
        )
    unreadable: list[OSError] = []
    for folder, subfolders, files in os.walk(os.path.realpath(root), onerror=unreadable.append):
        here = Path(folder)
        links = [name for name in subfolders if (here / name).is_symlink()]
        subfolders[:] = [name for name in subfolders if not _ignored(name, config)]
        for name in [*files, *links]:
            if not _ignored(name, config):
                yield _local_entry(here / name, Path(os.path.realpath(root)), name in links)
    for error in unreadable:
        yield _problem(
            Path(error.filename), Path(os.path.realpath(root)), f"unreadable_folder: {error.strerror}"
        )


def _local_entry(path: Path, root: Path, linked_folder: bool) -> dict:
    if linked_folder:
        return _problem(path, root, f"linked_folder: link to {os.readlink(path)!r}; give that folder itself")
    relative = path.relative_to(root).as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError:
        return _problem(path, root, "bad_name: the file name is not UTF-8; rename it")
    try:
        stamp = local_stamp(os.stat(path))
    except OSError:  # a broken link, or gone meanwhile; reading it will say which
        stamp = Stamp(0, EPOCH)
    return {"path": relative, "bytes": stamp.bytes, "modified": stamp.modified}


def _problem(path: Path, root: Path, problem: str) -> dict:
    name = (
        path.relative_to(root)
        .as_posix()
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
    )
    readable = problem.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return {"path": name, "bytes": 0, "modified": EPOCH, "problem": readable}


def _list_remote(raw_url: str, config: IngestConfig, fs_options: dict) -> Iterator[dict]:
    fs, root = fsspec.core.url_to_fs(raw_url, **fs_options)
    fs.invalidate_cache()
    if not fs.isdir(root):
        raise FileNotFoundError(f"{raw_url} holds no files; set GOT_RAW to a folder or prefix of images")
    for path, info in fs.find(root, detail=True).items():
        relative = path[len(root.rstrip("/")) :].lstrip("/")
        if not relative or any(_ignored(part, config) for part in relative.split("/")):
            continue
        stamp = remote_stamp(info)
        yield {"path": relative, "bytes": stamp.bytes, "modified": stamp.modified}


def _ignored(name: str, config: IngestConfig) -> bool:
    return any(fnmatch(name, pattern) for pattern in config.ignore)


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
