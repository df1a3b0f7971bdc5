"""Safetensors files in a storage, written piece by piece, named by their content and read by range.

Belongs here: their headers and names. Not here: what they mean (``parts``), and bytes in a store
(``got_core.ranged_files``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from got_core.ranged_files import RangedFiles
from got_core.train.latents.blocks import ALIGNMENT, Entry

SUFFIX = ".safetensors"


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


class LatentFiles(RangedFiles):
    """Files of latents below a storage's URL."""

    prefix = ".latents-"

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[NewFile]:
        """A file whose tensors go to an unnamed place first: where the file will be if that is local, else on
        this machine."""
        with tempfile.TemporaryFile(dir=self.folder(name)) as data:
            yield NewFile(data)

    def publish(self, new: NewFile, name: str) -> tuple[str, int]:
        """Give it its name, `<name>-<16 hex digits of its SHA-256>.safetensors`.

        Returns that and the byte at which its tensors begin.
        """
        header = new.header()
        with self.partial(name) as file:
            file.write(header)
            new._data.seek(0)
            shutil.copyfileobj(new._data, file, 1 << 20)
            file.flush()
            stored = f"{name}-{_sha256(file.name)[:16]}{SUFFIX}"
            self.put(file, stored)
        return stored, len(header)

    def array(self, name: str, offset: int, size: int) -> np.ndarray:
        """Bytes of a range, uint8 (size,), fewer where the file ends; of a local file they are mapped.

        Raises FileNotFoundError, naming the file.
        """
        if not self._is_local:
            return np.frombuffer(self.read(name, offset, size), dtype=np.uint8)
        try:
            return _mapped(self._path(name))[offset : offset + size]
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self._storage.url_of(name)} does not exist") from error


def _mapped(path: str) -> np.ndarray:
    """A whole file, mapped: pages come when they are looked at, and go with the last view."""
    if os.path.getsize(path) == 0:
        return np.zeros(0, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r")


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
