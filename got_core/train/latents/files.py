"""Safetensors files in a storage, written piece by piece, named by their content and read by range.

Belongs here: bytes on a local file system or an object store. Not here: what they mean (``parts``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from got_core.filesystems import local_path, open_filesystem
from got_core.storage import Storage
from got_core.train.latents.blocks import ALIGNMENT, Entry

SUFFIX = ".safetensors"
_PREFIX, _PARTIAL = ".latents-", ".partial"


class NewFile:
    """A file that is being written; nothing is seen of it until it is published."""

    def __init__(self, data: IO[bytes]) -> None:
        self._data = data
        self._header: dict[str, Any] = {}
        self.written = 0
        """Bytes of tensors so far."""

    def add(self, owner: str, entries: Sequence[Entry]) -> tuple[int, int]:
        """Append entries as tensors ``OWNER.NAME``. Returns where they begin among the tensors, and bytes."""
        first = self.written
        for name, dtype, shape, data in entries:
            self._data.write(data)
            place = [self.written, self.written + len(data)]
            self._header[f"{owner}.{name}"] = {"dtype": dtype, "shape": list(shape), "data_offsets": place}
            self.written = place[1]
        return first, self.written - first

    def header(self) -> bytes:
        """What the file begins with, padded so that the tensors begin at a multiple of ALIGNMENT bytes."""
        text = json.dumps(self._header, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text


class LatentFiles:
    """Files of latents below a storage's URL. Memory does not grow with a file."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._fs, _ = open_filesystem(storage.url, **storage.fs_options)
        self._is_local = local_path(storage.url) is not None

    def _path(self, name: str) -> str:
        return self._fs._strip_protocol(self._storage.url_of(name))

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[NewFile]:
        """A file whose tensors go to an unnamed place first: where the file will be if that is local, else on
        this machine."""
        with tempfile.TemporaryFile(dir=self._folder(name)) as data:
            yield NewFile(data)

    def _folder(self, name: str) -> Path | None:
        if not self._is_local:
            return None
        folder = Path(self._path(name)).parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, new: NewFile, name: str) -> tuple[str, int]:
        """Give it its name, `<name>-<16 hex digits of its SHA-256>.safetensors`.

        Returns that and the byte at which its tensors begin.
        """
        header = new.header()
        folder = self._folder(name)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=_PREFIX, suffix=_PARTIAL, delete=False) as file:
            try:
                file.write(header)
                new._data.seek(0)
                shutil.copyfileobj(new._data, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
                stored = f"{name}-{_sha256(file.name)[:16]}{SUFFIX}"
                self._put(Path(file.name), stored)
            finally:
                Path(file.name).unlink(missing_ok=True)
        return stored, len(header)

    def _put(self, file: Path, name: str) -> None:
        if self._is_local:
            os.chmod(file, 0o644)
            os.replace(file, self._path(name))
        else:
            self._fs.put_file(str(file), self._path(name))

    def size(self, name: str) -> int:
        """Bytes of a file; -1 where there is none."""
        try:
            self._fs.invalidate_cache()
            return int(self._fs.size(self._path(name)))
        except FileNotFoundError:
            return -1

    def read(self, name: str, offset: int, size: int) -> np.ndarray:
        """Bytes of a range, uint8 (size,), fewer where the file ends; of a local file they are mapped.

        Raises FileNotFoundError, naming the file.
        """
        try:
            if self._is_local:
                return _mapped(self._path(name))[offset : offset + size]
            data = self._fs.cat_file(self._path(name), start=offset, end=offset + size)
            return np.frombuffer(data, dtype=np.uint8)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self._storage.url_of(name)} does not exist") from error

    def sweep(self, folder: str) -> None:
        """Delete what stopped writers have left in a local folder. Nobody else may be writing there."""
        root = local_path(self._storage.url)
        if root is None:
            return
        for left in (root / folder).glob(f"{_PREFIX}*{_PARTIAL}"):
            left.unlink(missing_ok=True)


def _mapped(path: str) -> np.ndarray:
    """A whole file, mapped: pages come when they are looked at, and go with the last view."""
    if os.path.getsize(path) == 0:
        return np.zeros(0, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r")


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
