"""Large files in a storage: written piece by piece and put in their place whole, read by range.

Belongs here: bytes on a local file system or an object store. Not here: what they mean, and small documents
(``storage``).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from got_core.filesystems import local_path, open_filesystem
from got_core.local_files import written_whole
from got_core.storage import Storage

_SUFFIX = ".partial"


class RangedFiles:
    """Files below a storage's URL. Memory does not grow with a file.

    ``prefix`` is that of files which are still being written, such as ``.tar-``.
    """

    prefix = ".file-"

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._fs, _ = open_filesystem(storage.url, **storage.fs_options)
        self._is_local = local_path(storage.url) is not None

    def _path(self, name: str) -> str:
        return self._fs._strip_protocol(self._storage.url_of(name))

    def folder(self, name: str) -> Path | None:
        """The local folder that a file of this name lies in, made if need be; None where it is remote."""
        if not self._is_local:
            return None
        folder = Path(self._path(name)).parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def partial(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write, beside its place where that is local, else on this machine; gone at the end unless
        it was put in its place. StoreUnavailableError: the disk is full, or fails."""
        folder = self.folder(name)
        place = Path(self._path(name)) if folder else Path(tempfile.gettempdir()) / Path(name).name
        with (
            written_whole(place),
            tempfile.NamedTemporaryFile(dir=folder, prefix=self.prefix, suffix=_SUFFIX, delete=False) as file,
        ):
            try:
                yield file
            finally:
                Path(file.name).unlink(missing_ok=True)

    def put(self, file: IO[bytes], name: str) -> None:
        """Give a partial file its name, with all that was written."""
        file.flush()
        os.fsync(file.fileno())
        if self._is_local:
            os.chmod(file.name, 0o644)
            os.replace(file.name, self._path(name))
        else:
            self._fs.put_file(file.name, self._path(name))

    def size(self, name: str) -> int:
        """Bytes of a file; -1 where there is none."""
        try:
            self._fs.invalidate_cache()
            return int(self._fs.size(self._path(name)))
        except FileNotFoundError:
            return -1

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of a range, fewer where the file ends. Raises FileNotFoundError naming the file."""
        if not size:
            return b""  # a range of no bytes is the whole object to s3fs
        try:
            return self._fs.cat_file(self._path(name), start=offset, end=offset + size)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self._storage.url_of(name)} does not exist; write its shard again"
            ) from error

    def sweep(self, folder: str) -> None:
        """Delete what stopped writers have left in a local folder. Nobody else may be writing there."""
        root = local_path(self._storage.url)
        if root is None:
            return
        for left in (root / folder).glob(f"{self.prefix}*{_SUFFIX}"):
            left.unlink(missing_ok=True)
