"""Local files and folders that are there whole or not at all.

Belongs here: names of what is not finished, and taking its place. Not here: which files there are
(``storage``).
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from got_core.store_faults import is_machine_fault, machine_fault

TEMPORARY_SUFFIX = ".partial"


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """One process of a machine at a time; a lock file is left behind. Gives whether that is certain."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        locked = False
        with suppress(OSError):  # a file system without locks: all of them fetch, and the first one counts
            fcntl.flock(file, fcntl.LOCK_EX)
            locked = True
        yield locked


def is_temporary(name: str) -> bool:
    """Whether a name is that of something unfinished, or of a part of it."""
    # A folder being uploaded is temporary as a whole, so every part of the name counts.
    return any(part.startswith(".") and part.endswith(TEMPORARY_SUFFIX) for part in name.split("/"))


def temporary_beside(path: Path) -> Path:
    """A free name beside a path, for what is not finished."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY_SUFFIX}")


@contextmanager
def written_whole(path: Path) -> Iterator[None]:
    """StoreUnavailableError, naming the file, where writing it fails for a reason that is not its name's."""
    try:
        yield
    except OSError as error:
        if is_machine_fault(error):
            raise machine_fault(error, f"{path} cannot be written") from error
        raise


def write_local(path: Path, fill: Callable[[IO[bytes]], object], *, exclusive: bool) -> None:
    """Write a local file, whole or not at all.

    With `exclusive`, FileExistsError where the name is taken. StoreUnavailableError: no space, or
    the disk fails.
    """
    with written_whole(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    partial = temporary_beside(path)
    try:
        with written_whole(path), open(partial, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            os.link(partial, path)  # unlike rename, this fails where the name is taken
        else:
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed have left beside a path; for who is alone there."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY_SUFFIX}"):
        shutil.rmtree(left, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Force a file to the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def replace_folder(source: Path, target: Path) -> None:
    """Copy a folder to where another one may be."""
    if source.resolve() == target.resolve():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = temporary_beside(target)
    try:
        shutil.copytree(source, partial)
        take_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def take_place(partial: Path, target: Path) -> None:
    """Give a finished folder its name, whatever is there."""
    old = temporary_beside(target)
    try:
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and its folders, sorted."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
