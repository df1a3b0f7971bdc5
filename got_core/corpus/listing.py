"""Finding what an input holds: files of a folder or prefix, tars, parts of parquet files, rows of URL tables.

Belongs here: one row of :data:`IMAGE_LIST` for each. Does not belong here: cutting rows into shards
(``shards``), opening pictures (``ingest``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from fsspec.asyn import sync
from fsspec.utils import glob_translate

from got_core.corpus.config import IngestConfig
from got_core.corpus.event_objects import Announced
from got_core.corpus.inputs import ARCHIVES, Input
from got_core.corpus.inventories import objects_of
from got_core.corpus.links import CACHE_PARTS, is_cached_repository, is_within, refusal
from got_core.corpus.reader import EPOCH, Stamp, local_stamp, remote_stamp
from got_core.corpus.schemas import IMAGE_LIST, frame_of, polars_schema
from got_core.corpus.sieve import LINKED_AGAIN, Sieve, is_ignored
from got_core.filesystems import is_s3, open_filesystem
from got_core.storage import local_path

PAGE = 20_000
"""Keys of a page, about."""
_ODD_KEY = "bad_name: a key with '://' in it or '/' before it; rename it"
KEYS = 1000
"""Keys that are asked for at once; no store gives more."""


class Listing(NamedTuple):
    """What an input holds."""

    found: pl.DataFrame
    """:data:`IMAGE_LIST`: files, tars and parts of parquet files sorted, URLs in their order."""

    passed_over: dict[str, int]
    """Numbers of files that are no input, by kind (see ``sieve``)."""


class Page(NamedTuple):
    """Some of what an input holds."""

    found: pl.DataFrame
    """:data:`IMAGE_LIST`, in order."""
    last: str = ""
    """The last key that was looked at: the next page lies behind it. Empty: none, or of no use."""
    more: bool = False
    """Whether a page follows."""


def list_input(one: Input, config: IngestConfig) -> Listing:
    """What an input holds, and how much beside it is none.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: as ``shards.assign_image_shards``.
    """
    sieve = Sieve(config)
    return Listing(_whole(one, sieve, config), dict(sieve.counts))


def list_pages(one: Input, config: IngestConfig, sieve: Sieve, after: str = "") -> Iterator[Page]:
    """What an input holds, in order, a page at a time; `sieve` counts what is passed over.

    Of an input that `lists_from_a_key`, what lies behind the key `after`, some requests to the store a page;
    of one with an inventory, what that has behind the place `after` (see ``inventories``). Any other is a
    single page. Raises as `list_input` and `inventories.objects_of`.
    """
    if one.inventory is not None:
        looked_for = repr((config.pictures, config.ignore))
        for part in objects_of(one, after, looked_for):
            yield Page(entries_of(one, part.frame, sieve, config), part.place, part.more)
    elif lists_from_a_key(one):
        yield from _s3_pages(one, sieve, after)
    else:
        yield Page(_whole(one, sieve, config))


def lists_from_a_key(one: Input) -> bool:
    """Whether listing can begin behind any key: prefixes of S3."""
    return one.pattern is None and one.inventory is None and is_s3(one.base)


def entries_of(one: Input, objects: pl.DataFrame, sieve: Sieve, config: IngestConfig) -> pl.DataFrame:
    """The input's entries among objects of S3 (``inventory_files.OBJECTS``), as listing would find them."""
    if one.pattern is not None:
        return _containers_among(one, objects, sieve, config)
    kept = objects.filter([bool(path) and sieve.accepts(path) for path in objects["path"]])
    odd = pl.col("path").str.contains("://", literal=True) | pl.col("path").str.starts_with("/")
    listed = kept.with_columns(
        path=pl.lit(f"{one.name}://" if one.name else "") + pl.col("path"),
        problem=pl.when(odd).then(pl.lit(_ODD_KEY)),
        kind=pl.lit("file"),
        source=pl.lit(one.source, pl.String),
        licence=pl.lit(one.licence, pl.String),
    )
    types = polars_schema(IMAGE_LIST)
    empty = [pl.lit(None, dtype).alias(name) for name, dtype in types.items() if name not in listed.columns]
    return listed.with_columns(empty).select(pl.col(name).cast(dtype) for name, dtype in types.items())


def announced_entries(one: Input, part: Announced, sieve: Sieve, config: IngestConfig) -> pl.DataFrame:
    """The input's entries that events announce, and what is no event with its problem."""
    common = {"kind": "file", "source": one.source, "licence": one.licence}
    bad = frame_of([{**common, **row} for row in part.bad], IMAGE_LIST)
    return pl.concat([entries_of(one, part.frame, sieve, config), bad])


def _whole(one: Input, sieve: Sieve, config: IngestConfig) -> pl.DataFrame:
    if one.pattern is not None:
        frames = [_list_container(one, *found, config) for found in _containers(one, sieve)]
        return pl.concat(frames).unique(["path", "first"], keep="first", maintain_order=True)
    local = local_path(one.base)
    rows = _list_local(local, sieve, config) if local else _list_remote(one.base, sieve, one.options)
    return _listed(one, list(rows), "file").sort("path", "bytes", "modified")


def _listed(one: Input, rows: list[dict], kind: str) -> pl.DataFrame:
    common = {"kind": kind, "source": one.source, "licence": one.licence}
    return frame_of([{**common, **row, "path": one.path_of(row["path"])} for row in rows], IMAGE_LIST)


# Archives and tables


def _containers(one: Input, sieve: Sieve) -> list[tuple[str, Stamp]]:
    """Relative path and stamp of all files that fit the pattern, sorted; one named in full always does."""
    assert one.pattern is not None
    fs, base = open_filesystem(one.base, **one.options)
    fs.invalidate_cache()
    base = base.rstrip("/")
    exact = f"{base}/{one.pattern}"
    if fs.isfile(exact):
        return [(one.pattern, _stamp_of(fs.info(exact)))]
    # Not `fs.glob`: it would take the base for a pattern, too.
    depth = None if "**" in one.pattern else one.pattern.count("/") + 1
    found = fs.find(base, maxdepth=depth, detail=True).items()
    below = {path[len(base) :].lstrip("/"): info for path, info in found}
    fits = re.compile(glob_translate(one.pattern)).match
    names = {name: info for name, info in below.items() if fits(name)}
    kept = [name for name in sorted(names) if sieve.enters(name)]
    if not kept:
        raise FileNotFoundError(f"{one.base}/{one.pattern} does not exist; set GOT_RAW to what does")
    return [(name, _stamp_of(names[name])) for name in kept]


def _containers_among(one: Input, objects: pl.DataFrame, sieve: Sieve, config: IngestConfig) -> pl.DataFrame:
    """Archives and tables among objects of S3."""
    assert one.pattern is not None
    fits = re.compile(glob_translate(one.pattern)).match
    frames = [frame_of([], IMAGE_LIST)]
    for path, size, modified, etag in objects.select("path", "bytes", "modified", "etag").iter_rows():
        if path == one.pattern or (fits(path) and sieve.enters(path)):
            frames.append(_list_container(one, path, Stamp(size, modified, etag), config))
    return pl.concat(frames).unique(["path", "first"], keep="first", maintain_order=True)


def _stamp_of(info: dict[str, Any]) -> Stamp:
    if "ino" not in info:
        return remote_stamp(info)
    try:
        return local_stamp(os.stat(info["name"]))
    except OSError:  # a broken link; opening it will say so
        return Stamp(0, EPOCH)


def _list_container(one: Input, path: str, stamp: Stamp, config: IngestConfig) -> pl.DataFrame:
    from got_core.corpus.tables import list_table  # pyarrow: not where only folders are listed

    row = {"path": path, **stamp._asdict()}
    if path.lower().endswith(ARCHIVES):
        return _listed(one, [row], "tar")
    rows = list_table(one, path, stamp, config)
    if isinstance(rows, pl.DataFrame):
        return rows.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(IMAGE_LIST).items())
    return _listed(one, [{**row, **part} for part in rows], "parquet")


# Listing files


def _list_local(given: Path, sieve: Sieve, config: IngestConfig) -> Iterator[dict]:
    if not given.exists():
        raise FileNotFoundError(
            f"the raw image folder {given} does not exist; set GOT_RAW to a folder of images"
        )
    if not given.is_dir():
        raise NotADirectoryError(
            f"the raw image folder {given} is a file; set GOT_RAW to the folder it lies in, or to a .tar, "
            ".parquet, .csv or .toml file"
        )
    root = Path(os.path.realpath(given))
    yield from _Walk(root, sieve, config).entries(root)


class _Walk:
    """Files below a root, each at one place: links to folders are entered only where nothing else leads."""

    def __init__(self, root: Path, sieve: Sieve, config: IngestConfig) -> None:
        self._root, self._sieve, self._config = root, sieve, config
        self._entered: set[str] = set()
        """Targets of links to folders that were followed."""

    def entries(self, top: Path) -> Iterator[dict]:
        unreadable: list[OSError] = []
        for folder, subfolders, files in os.walk(top, onerror=unreadable.append):
            here = Path(folder)
            inner = [name for name in subfolders if self._sieve.enters(self._relative(here / name))]
            if is_cached_repository(here):
                for name in set(inner) & set(CACHE_PARTS):
                    self._sieve.pass_over(f"{name} of a Hugging Face cache")
                inner = [name for name in inner if name not in CACHE_PARTS]
            links = [name for name in inner if (here / name).is_symlink()]
            subfolders[:] = [name for name in inner if name not in links]
            for name in links:
                yield from self._linked(here / name)
            for name in files:
                if self._sieve.accepts(self._relative(here / name)):
                    yield _local_entry(here / name, self._root)
        for error in unreadable:
            yield _problem(Path(error.filename), self._root, f"unreadable_folder: {error.strerror}")

    def _linked(self, link: Path) -> Iterator[dict]:
        target = os.path.realpath(link)
        if not is_within(target, (self._root,)):
            yield _problem(link, self._root, f"linked_folder: {refusal(target, self._root)}")
        elif not is_ignored(self._relative(Path(target)), self._config) or target in self._entered:
            self._sieve.pass_over(LINKED_AGAIN)
        else:
            self._entered.add(target)
            yield from self.entries(link)

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self._root)


def _local_entry(path: Path, root: Path) -> dict:
    relative = path.relative_to(root).as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError:
        return _problem(path, root, "bad_name: the file name is not UTF-8; rename it")
    try:
        stamp = local_stamp(os.stat(path))
    except OSError:  # a broken link, or gone meanwhile; reading it will say which
        stamp = Stamp(0, EPOCH)
    return {"path": relative, **stamp._asdict()}


def _problem(path: Path, root: Path, problem: str) -> dict:
    name = (
        path.relative_to(root)
        .as_posix()
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
    )
    readable = problem.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return {"path": name, "bytes": 0, "modified": EPOCH, "problem": readable}


def _list_remote(raw_url: str, sieve: Sieve, fs_options: dict) -> Iterator[dict]:
    fs, root = open_filesystem(raw_url, **fs_options)
    fs.invalidate_cache()
    if not fs.isdir(root):
        raise FileNotFoundError(f"{raw_url} holds no files; set GOT_RAW to a folder or prefix of images")
    base = root.rstrip("/")
    for path, info in fs.find(root, detail=True).items():
        yield from _remote_entry(path[len(base) :].removeprefix("/"), info, sieve)


def _remote_entry(relative: str, info: dict[str, Any], sieve: Sieve) -> Iterator[dict]:
    if not relative or not sieve.accepts(relative):
        return
    stamp = remote_stamp(info)
    odd = "://" in relative or relative.startswith("/")
    yield {"path": relative, **stamp._asdict(), "problem": _ODD_KEY if odd else None}


def _s3_pages(one: Input, sieve: Sieve, after: str) -> Iterator[Page]:
    """A store lists keys in the order of their bytes, from any key on."""
    fs, root = open_filesystem(one.base, **one.options)
    bucket, _, folder = root.rstrip("/").partition("/")
    prefix = f"{folder}/" if folder else ""
    if not after and not fs.isdir(root):
        raise FileNotFoundError(f"{one.base} holds no files; set GOT_RAW to a folder or prefix of images")
    asked = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": KEYS}
    rows: list[dict] = []
    seen, more = 0, True
    while more:
        start = {"StartAfter": prefix + after} if after else {}
        # Not `call_s3`: that is s3fs' own, which does not say when the store is not available.
        answer = sync(fs.loop, fs._call_s3, "list_objects_v2", **asked, **start)
        keys = answer.get("Contents", [])
        for info in keys:
            after = info["Key"][len(prefix) :]
            rows += _remote_entry(after, {**info, "size": info["Size"]}, sieve)
        seen, more = seen + len(keys), bool(answer.get("IsTruncated"))
        if not more or seen >= PAGE:
            yield Page(_listed(one, rows, "file"), after, more)
            rows, seen = [], 0
