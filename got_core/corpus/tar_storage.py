"""Tars in a storage: written piece by piece, named by their content, read by range.

Belongs here: bytes on a local file system or an object store. Not here: what they mean (`sample_tars`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from got_core.filesystems import open_filesystem
from got_core.storage import Storage, local_path

_PREFIX, _SUFFIX = ".tar-", ".partial"


class NewTar:
    """A tar that is being written; nothing is seen of it until it is published."""

    def __init__(self, file: IO[bytes], place: TarStorage, name: str) -> None:
        self._file, self._place, self._name = file, place, name
        self._digest = hashlib.sha256()
        self.written = 0
        """Bytes so far."""

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self._digest.update(data)
        self.written += len(data)

    def publish(self) -> str:
        """Give it its name, `<name>-<16 hex digits of its SHA-256>.tar`, and return that."""
        self._file.flush()
        os.fsync(self._file.fileno())
        stored = f"{self._name}-{self._digest.hexdigest()[:16]}.tar"
        self._place.put(Path(self._file.name), stored)
        return stored


class TarStorage:
    """Tars below a storage's URL. Memory does not grow with a tar."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._fs, _ = open_filesystem(storage.url, **storage.fs_options)

    def _path(self, name: str) -> str:
        return self._fs._strip_protocol(self._storage.url_of(name))

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[NewTar]:
        """A tar written to a temporary file: beside its place where that is local, else on this machine."""
        folder: Path | None = None
        if local_path(self._storage.url) is not None:
            folder = Path(self._path(name)).parent
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=_PREFIX, suffix=_SUFFIX, delete=False) as file:
            try:
                yield NewTar(file, self, name)
            finally:
                Path(file.name).unlink(missing_ok=True)

    def put(self, file: Path, name: str) -> None:
        """Move a local file to its name."""
        if local_path(self._storage.url) is not None:
            os.chmod(file, 0o644)
            os.replace(file, self._path(name))
        else:
            self._fs.put_file(str(file), self._path(name))

    def size(self, name: str) -> int:
        """Bytes of a tar; -1 where there is none."""
        try:
            self._fs.invalidate_cache()
            return int(self._fs.size(self._path(name)))
        except FileNotFoundError:
            return -1

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of a range. Raises FileNotFoundError naming the tar."""
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
        for left in (root / folder).glob(f"{_PREFIX}*{_SUFFIX}"):
            left.unlink(missing_ok=True)
