"""Finding what an input holds: files of a folder or prefix, tars, parts of parquet files, rows of URL tables.

Belongs here: one row of :data:`IMAGE_LIST` for each. Does not belong here: cutting rows into shards
(``shards``), opening pictures (``ingest``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import fsspec
import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.corpus.inputs import ARCHIVES, Input
from got_core.corpus.reader import EPOCH, Stamp, local_stamp, remote_stamp
from got_core.corpus.schemas import IMAGE_LIST, frame_of, polars_schema
from got_core.storage import local_path


def list_input(one: Input, config: IngestConfig) -> pl.DataFrame:
    """:data:`IMAGE_LIST` of an input: files, tars and parts of parquet files sorted, URLs in their order.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: as ``shards.assign_image_shards``.
    """
    if one.pattern is not None:
        frames = [_list_container(one, *found, config) for found in _containers(one, config)]
        return pl.concat(frames).unique(["path", "first"], keep="first", maintain_order=True)
    rows = (
        _list_local(one.base, config) if local_path(one.base) else _list_remote(one.base, config, one.options)
    )
    return _listed(one, list(rows), "file").sort("path", "bytes", "modified")


def _listed(one: Input, rows: list[dict], kind: str) -> pl.DataFrame:
    common = {"kind": kind, "source": one.source, "licence": one.licence}
    return frame_of([{**common, **row, "path": one.path_of(row["path"])} for row in rows], IMAGE_LIST)


# Archives and tables


def _containers(one: Input, config: IngestConfig) -> list[tuple[str, Stamp]]:
    """Relative path and stamp of every file that fits the pattern, sorted."""
    assert one.pattern is not None
    fs, base = fsspec.core.url_to_fs(one.base, **one.options)
    fs.invalidate_cache()
    base = base.rstrip("/")
    exact = f"{base}/{one.pattern}"
    if fs.isfile(exact):
        found = {exact: fs.info(exact)}
    else:
        found = {
            path: info for path, info in fs.glob(exact, detail=True).items() if info["type"] != "directory"
        }
    names = {path[len(base) :].lstrip("/"): info for path, info in found.items()}
    kept = [name for name in sorted(names) if not any(_ignored(part, config) for part in name.split("/"))]
    if not kept:
        raise FileNotFoundError(f"{one.base}/{one.pattern} does not exist; set GOT_RAW to what does")
    return [(name, _stamp_of(names[name])) for name in kept]


def _stamp_of(info: dict[str, Any]) -> Stamp:
    if "ino" not in info:
        return remote_stamp(info)
    try:
        return local_stamp(os.stat(info["name"]))
    except OSError:  # a broken link; opening it will say so
        return Stamp(0, EPOCH)


def _list_container(one: Input, path: str, stamp: Stamp, config: IngestConfig) -> pl.DataFrame:
    from got_core.corpus.tables import list_table  # pyarrow: not where only folders are listed

    row = {"path": path, "bytes": stamp.bytes, "modified": stamp.modified}
    if path.lower().endswith(ARCHIVES):
        return _listed(one, [row], "tar")
    rows = list_table(one, path, stamp, config)
    if isinstance(rows, pl.DataFrame):
        return rows.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(IMAGE_LIST).items())
    return _listed(one, [{**row, **part} for part in rows], "parquet")


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
            f"the raw image folder {root} is a file; set GOT_RAW to the folder it lies in, or to a .tar, "
            ".parquet, .csv or .toml file"
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
        problem = "bad_name: '://' in a key; rename it" if "://" in relative else None
        yield {"path": relative, "bytes": stamp.bytes, "modified": stamp.modified, "problem": problem}


def _ignored(name: str, config: IngestConfig) -> bool:
    return any(fnmatch(name, pattern) for pattern in config.ignore)
