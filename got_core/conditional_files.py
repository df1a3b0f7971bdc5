"""Small files that several machines change: each replaces only what it has read.

Belongs here: compare and replace, on folders and on S3. Not here: what stands in the files (`leases`,
`annotate.daily_budget`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from got_core.filesystems import is_s3, local_path, open_filesystem
from got_core.store_faults import StoreUnavailableError

_PROBE = "leases/conditional-writes"
_NO_ETAG = '"0"'


@dataclass(frozen=True)
class Version:
    """A file's bytes, and what the store calls them."""

    data: bytes
    tag: str


class ConditionalFiles(Protocol):
    """Files by name. Bytes of two versions of a file must differ: stores tell versions apart by them."""

    note: str
    """A sentence where they are shared by fewer processes than the storage is; else empty."""

    def read(self, name: str) -> Version | None:
        """What the file holds; None where there is none."""

    def write(self, name: str, data: bytes, expected: Version | None) -> Version | None:
        """Write a file that is still `expected` (None: not there); None, and nothing written, where not."""


def conditional_files(url: str, options: dict[str, Any], fallback: Path | None = None) -> ConditionalFiles:
    """The conditional files of a storage.

    Args:
        url: of the storage.
        options: fsspec options that go with the URL.
        fallback: folder for those of a store that has no conditional writes; by default in the user's cache.

    Raises:
        StoreUnavailableError: an S3 store cannot be asked.
    """
    if local := local_path(url):
        return LocalFiles(local)
    if is_s3(url):
        fs, root = open_filesystem(url, **options)
        if _has_conditional_writes(fs, f"{root.rstrip('/')}/{_PROBE}"):
            return S3Files(fs, root)
    folder = (fallback or _cache_root() / "conditional") / hashlib.sha256(url.encode()).hexdigest()[:16]
    note = (
        f"{url} has no conditional writes: that no two processes do the same work is seen to among those of "
        f"this machine only ({folder})"
    )
    return LocalFiles(folder, note)


class LocalFiles:
    """In a folder. Files are locked and written in place: a second file for the lock would stay behind."""

    def __init__(self, folder: Path, note: str = "") -> None:
        self._folder, self.note = folder, note

    def read(self, name: str) -> Version | None:
        """As the protocol says."""
        try:
            with open(self._folder / name, "rb") as file:
                _lock(file, fcntl.LOCK_SH)
                return _version(file.read())
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes, expected: Version | None) -> Version | None:
        """As the protocol says. White space may follow what is written."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0) as file:
            _lock(file, fcntl.LOCK_EX)
            old = file.read()
            if _version(old) != expected:
                return None
            # Never shorter, and in one write, so that a process killed here leaves the old or the new.
            data = data.ljust(len(old))
            os.pwrite(file.fileno(), data, 0)
            os.fsync(file.fileno())
        return _version(data)


def _version(data: bytes) -> Version | None:
    return Version(data, hashlib.sha256(data).hexdigest()) if data else None


def _lock(file: IO[bytes], how: int) -> None:
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A network folder without locks: two processes that write at the very same moment may both succeed.


class S3Files:
    """Objects: one request to read, one to write (`If-None-Match`, `If-Match`)."""

    note = ""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs, self._root = fs, root.rstrip("/")

    def read(self, name: str) -> Version | None:
        """As the protocol says."""
        found = self._fs.read_with_etag(f"{self._root}/{name}")
        return None if found is None else Version(*found)

    def write(self, name: str, data: bytes, expected: Version | None) -> Version | None:
        """As the protocol says; a reply that was lost on its way is no refusal."""
        etag = self._fs.write_if(f"{self._root}/{name}", data, expected and expected.tag)
        if etag is not None:
            return Version(data, etag)
        now = self.read(name)
        return now if now is not None and now.data == data else None


def _cache_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "got"


def _has_conditional_writes(fs: Any, path: str) -> bool:
    """Whether a store heeds the conditions of a write, as opposed to writing anyhow or refusing to."""
    try:
        if fs.write_if(path, b"", None) is not None and fs.write_if(path, b"", None) is not None:
            return False
        return fs.write_if(path, b"", _NO_ETAG) is None
    except StoreUnavailableError as error:
        if "NotImplemented" in str(error):
            return False
        raise
