"""Reading files below given roots, and nothing outside them.

Belongs here: opening by relative path, on a local folder or an fsspec URL, with a reason for each file that
cannot be read. Does not belong here: what the bytes mean (``decode``), tables of them (``ingest``).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from PIL import Image

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError, decode_image
from got_core.corpus.inputs import STORE, Input, inputs_of
from got_core.corpus.links import allowed_folders, is_within, refusal
from got_core.corpus.members import Member, shown
from got_core.corpus.store import FOLDER
from got_core.filesystems import StoreUnavailableError, is_s3, open_filesystem
from got_core.storage import local_path
from got_core.store_faults import is_machine_fault, machine_fault

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SCATTERED: dict[str, Any] = {
    "block_size": 4 * 1024**2,
    "cache_type": "blockcache",
    "cache_options": {"maxblocks": 16},
}
"""For fsspec's ``open``: columns lie far apart and are read in turn, which is not reading ahead."""


class Stamp(NamedTuple):
    """Size in bytes, time of last change (microseconds, UTC) and, where the store has such, its tag of the
    content: together with the path, a file's version."""

    bytes: int
    modified: datetime
    etag: str | None = None


class ImageReader:
    """Opens pictures by the path that a table gives.

    A plain path lies below the raw folder, ``name://path`` below that input of a list of inputs,
    ``store://path`` in the project's storage, and a member's (see ``members``) in a tar, of which nothing
    else is read. Cheap to build and picklable.

    Args:
        root_url: what GOT_RAW may be (see ``inputs``), or the folder of a pair table.
        config: decoding limits; the defaults if None.
        fs_options: passed to the fsspec file system of a remote root.
        store_url: URL of the project's storage; None: no table of URLs, tars or parquet is read.
        store_options: passed to its fsspec file system.

    Raises:
        FileNotFoundError, ValueError: a list of inputs that cannot be read.
    """

    def __init__(
        self,
        root_url: str | os.PathLike[str],
        config: IngestConfig | None = None,
        fs_options: dict | None = None,
        *,
        store_url: str | None = None,
        store_options: dict | None = None,
    ) -> None:
        self.config = config or IngestConfig()
        inputs = inputs_of(root_url, fs_options)
        self._folders = {one.name: Folder.of(one, self.config) for one in inputs}
        if store_url:
            self._folders[STORE] = Folder(f"{store_url.rstrip('/')}/{FOLDER}", self.config, store_options)

    def open(self, path: str) -> Image.Image:
        """The picture as RGB (see :func:`decode_image`). Raises ImageError, its detail naming the path."""
        return self.decode(path, self.read_named(path))

    __call__ = open

    def read_named(self, path: str) -> bytes:
        """As `read_bytes`, the detail of an ImageError naming the path."""
        try:
            return self.read_bytes(path)
        except ImageError as error:
            raise _at(path, error) from error

    def decode(self, path: str, data: bytes) -> Image.Image:
        """The picture of a path's bytes, as `open` gives it."""
        try:
            return decode_image(data, self.config)
        except ImageError as error:
            raise _at(path, error) from error

    def read_bytes(self, path: str, expected: Stamp | None = None) -> bytes:
        """The file's bytes; see :meth:`Folder.read_bytes`. Of a member, those that were ingested and no
        others: ImageError (changed) where its tar has other bytes by now."""
        if member := Member.of(path):
            folder, relative = self._find(member.archive)
            return folder.read_member(relative, member)
        folder, relative = self._find(path)
        return folder.read_bytes(relative, expected)

    def open_file(self, path: str, expected: Stamp, *, scattered: bool = False) -> IO[bytes]:
        """An archive or table as a file; see :meth:`Folder.open_file`."""
        folder, relative = self._find(path)
        return folder.open_file(relative, expected, scattered=scattered)

    def _find(self, path: str) -> tuple[Folder, str]:
        name, separator, relative = path.rpartition("://")
        if name not in self._folders:
            what = f"{name}://" if separator else "a plain path"
            raise ImageError("outside_root", f"{what} belongs to no input that is read")
        return self._folders[name], relative


class Folder:
    """Files below one folder or URL. Links are followed only where they stay below it (see ``links``).

    Args:
        root_url: a folder (relative or absolute), ``file://`` or any fsspec URL.
        config: its limits.
        fs_options: passed to the fsspec file system of a remote root.
        named: the one file that the user named; it may be a link to anywhere.
    """

    def __init__(
        self,
        root_url: str | os.PathLike[str],
        config: IngestConfig,
        fs_options: dict | None = None,
        named: str | None = None,
    ) -> None:
        self.config = config
        self._named = named
        root = local_path(root_url)
        self.local_root = Path(os.path.realpath(root)) if root else None
        self._allowed = allowed_folders(self.local_root) if self.local_root else ()
        self.root_url = str(self.local_root or os.fspath(root_url).rstrip("/"))
        self._fs: Any = None
        self._prefix = self.root_url
        if self.local_root is None:
            self._fs, prefix = open_filesystem(self.root_url, **(fs_options or {}))
            self._prefix = prefix.rstrip("/")

    @classmethod
    def of(cls, one: Input, config: IngestConfig) -> Folder:
        """The folder of an input."""
        return cls(one.base, config, one.options, one.pattern)

    def read_bytes(self, path: str, expected: Stamp | None = None) -> bytes:
        """The file's bytes; never more than ``config.max_bytes``.

        Raises ImageError: outside_root, vanished, changed (another stamp than ``expected``), too_large,
        permission_denied, broken_link, not_a_file or unreadable.
        """
        try:
            return self._read_local(path, expected) if self.local_root else self._read_remote(path, expected)
        except OSError as error:
            raise self._os_error(error, path) from error

    def read_member(self, path: str, member: Member) -> bytes:
        """The bytes of a tar's member, in one ranged read.

        Raises ImageError as `read_bytes`: changed where they are not those with the member's SHA-256.
        """
        if member.size > self.config.max_bytes:
            raise ImageError("too_large", f"{member.size} bytes, limit {self.config.max_bytes}")
        try:
            data = self._read_range(path, member.offset, member.size)
        except OSError as error:
            raise self._os_error(error, path) from error
        if hashlib.sha256(data).hexdigest() != member.image_id:
            raise ImageError(
                "changed",
                f"{path} has changed: its {member.size} bytes from {member.offset} on are not the picture "
                "that was ingested; put the tar back, or materialize its shard of raw_images again",
            )
        return data

    def _read_range(self, path: str, offset: int, size: int) -> bytes:
        """Bytes of a file, fewer where it ends."""
        full = self._inside(path)
        if self.local_root:
            _check_regular(os.stat(full))
            with open(full, "rb") as file:
                file.seek(offset)
                return file.read(size)
        try:
            return self._fs.cat_file(full, start=offset, end=offset + size)
        except OSError as error:
            if error.errno == errno.EINVAL:  # it ends before the range begins
                return b""
            raise

    def _read_local(self, path: str, expected: Stamp | None) -> bytes:
        full = self._inside(path)
        status = os.stat(full)
        _check_regular(status)
        self._check_stamp(local_stamp(status), expected)
        with open(full, "rb") as file:
            return file.read(self.config.max_bytes + 1)

    def _read_remote(self, path: str, expected: Stamp | None) -> bytes:
        if is_s3(self.root_url):
            data, info = self._fs.read_object(self._inside(path), self.config.max_bytes)
            self._check_stamp(remote_stamp(info), expected)
            return data
        file, info = self._open_remote(path)
        with file:
            if info["type"] != "file":
                raise ImageError("not_a_file", "a folder")
            self._check_stamp(remote_stamp(info), expected)
            return file.read(self.config.max_bytes + 1)

    def _open_remote(self, path: str, **options: Any) -> tuple[IO[bytes], dict[str, Any]]:
        """The file, and what the store says of it; from S3 nothing but that version is read."""
        full = self._inside(path)
        file = self._fs.open(full, "rb", **options)
        return file, getattr(file, "details", None) or self._fs.info(full)

    def open_file(self, path: str, expected: Stamp, *, scattered: bool = False) -> IO[bytes]:
        """A regular file, whatever its size, to be read bit by bit: from front to back, or
        `scattered` (parquet).

        Raises ImageError as `read_bytes`.
        """
        try:
            full = self._inside(path)
            if self.local_root:
                status = os.stat(full)
                if not stat.S_ISREG(status.st_mode):
                    raise ImageError("not_a_file", "not a regular file")
                _check_version(local_stamp(status), expected)
                return open(full, "rb")
            file, info = self._open_remote(path, **(SCATTERED if scattered else {}))
            _check_version(remote_stamp(info), expected)
            return file
        except OSError as error:
            raise self._os_error(error, path) from error

    def _check_stamp(self, found: Stamp, expected: Stamp | None) -> None:
        if expected:
            _check_version(found, expected)
        if found.bytes > self.config.max_bytes:
            raise ImageError("too_large", f"{found.bytes} bytes, limit {self.config.max_bytes}")

    def _inside(self, path: str) -> str:
        pure = PurePosixPath(path)
        if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\0" in path:
            raise ImageError("outside_root", "not a plain path below the root")
        full = f"{self._prefix}/{path}"
        if self.local_root is None:
            return full
        real = os.path.realpath(full)
        if path != self._named and not is_within(real, self._allowed):
            raise ImageError("outside_root", refusal(real, self.local_root))
        return full

    def _os_error(self, error: OSError, path: str) -> ImageError:
        if is_machine_fault(error) or isinstance(error, ConnectionError | TimeoutError):
            raise machine_fault(error, f"{self._prefix}/{path} cannot be read") from error
        if self._root_is_gone():
            raise StoreUnavailableError(
                f"{self.root_url} is gone, or empty: is it mounted? Bring it back, then run it again: what "
                "is done is kept"
            ) from error
        if isinstance(error, PermissionError):
            return ImageError("permission_denied", "the file may not be read by this user")
        full = f"{self._prefix}/{path}"
        linked = self.local_root is not None and os.path.islink(full)
        if linked and (isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP):
            return ImageError("broken_link", f"a symbolic link to {os.readlink(full)!r}, which is not there")
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return ImageError("vanished", "the file is no longer there")
        if isinstance(error, IsADirectoryError):
            return ImageError("not_a_file", "a folder")
        return ImageError("unreadable", f"{type(error).__name__} {error.strerror or error}")

    def _root_is_gone(self) -> bool:
        """Whether the folder is missing, closed or empty, as that of a mount which is gone."""
        if self.local_root is None:
            return False
        try:
            with os.scandir(self.local_root) as entries:
                return next(entries, None) is None
        except OSError:
            return True


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ImageError(
            "not_a_file", "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        )


def _at(path: str, error: ImageError) -> ImageError:
    return ImageError(error.reason, f"{shown(path)}: {error.detail}")


def _same_version(found: Stamp, expected: Stamp) -> bool:
    if found.etag is None:
        return found[:2] == expected[:2]
    if expected.etag is not None:
        return (found.bytes, found.etag) == (expected.bytes, expected.etag)
    # Listed by an older version. Some servers list milliseconds, which a single object's answer leaves out.
    seconds = [one.modified.replace(microsecond=0) for one in (found, expected)]
    return found.bytes == expected.bytes and seconds[0] == seconds[1]


def _check_version(found: Stamp, expected: Stamp) -> None:
    if not _same_version(found, expected):
        raise ImageError(
            "changed", f"listed with {expected.bytes} bytes of {expected.modified:%Y-%m-%d %H:%M:%S}"
        )


def local_stamp(status: os.stat_result) -> Stamp:
    """The stamp of a local file."""
    return Stamp(status.st_size, EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000))


def remote_stamp(info: dict) -> Stamp:
    """The stamp of an fsspec file; the epoch where the file system keeps no times."""
    found = next(
        (info[key] for key in ("LastModified", "last_modified", "mtime", "created") if info.get(key)), EPOCH
    )
    moment = found if isinstance(found, datetime) else datetime.fromtimestamp(float(found), UTC)
    utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return Stamp(int(info.get("size") or 0), utc, (info.get("ETag") or "").strip('"') or None)
