"""All files of a storage with size and time, in one listing.

Belongs here: the listing, unfinished files included. Not here: what they are (`kinds`).
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from got_core.filesystems import is_s3, local_path, open_filesystem
from got_core.local_files import is_temporary
from got_core.storage import Storage


class Entry(NamedTuple):
    """A file."""

    name: str
    """In the storage; that of an unfinished folder ends with a slash."""
    size: int
    """Bytes."""
    changed: float
    """Seconds since 1970, UTC; infinity where the store does not say."""
    plain: bool = True
    """Whether it is a file as this project writes them: no link, device or folder marker."""


def entries(storage: Storage) -> Iterator[Entry]:
    """Every file below the storage's URL, in no order. Links are named and not followed.

    Raises OSError or StoreUnavailableError where part of it cannot be listed.
    """
    if local := local_path(storage.url):
        return _local(local)
    fs, root = open_filesystem(storage.url, **storage.fs_options)
    return _of_s3(fs, root.rstrip("/")) if is_s3(storage.url) else _of_others(fs, root.rstrip("/"))


def _local(root: Path) -> Iterator[Entry]:
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            found = [*os.scandir(folder)]
        except FileNotFoundError:  # removed meanwhile, or nothing was ever stored
            continue
        for one in found:
            entry = _local_entry(root, one)
            if entry is None:
                continue
            if one.is_dir(follow_symlinks=False):
                folders.append(Path(one.path))
                if not is_temporary(one.name):
                    continue
            yield entry


def _local_entry(root: Path, one: os.DirEntry[str]) -> Entry | None:
    try:
        found = one.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    name = os.path.relpath(one.path, root).replace(os.sep, "/")
    # A copied folder has the times of its source; when it got here, the inode says.
    changed = max(found.st_mtime, found.st_ctime)
    if stat.S_ISDIR(found.st_mode):
        return Entry(f"{name}/", 0, changed)
    return Entry(name, found.st_size, changed, stat.S_ISREG(found.st_mode))


def _of_s3(fs: Any, root: str) -> Iterator[Entry]:
    for page in fs.pages(f"{root}/"):
        for name, size, changed in page:
            yield Entry(name[len(root) + 1 :], size, changed.timestamp(), not name.endswith("/"))


def _of_others(fs: Any, root: str) -> Iterator[Entry]:
    fs.invalidate_cache()
    for path, info in fs.find(root, detail=True).items():
        times = (info.get(name) for name in ("mtime", "LastModified", "updated", "created"))
        changed = next((one for one in times if one is not None), math.inf)
        if isinstance(changed, datetime):
            changed = (changed if changed.tzinfo else changed.replace(tzinfo=UTC)).timestamp()
        yield Entry(path[len(root) :].lstrip("/"), int(info.get("size") or 0), float(changed))
