"""Tars in a storage: written piece by piece, named by their content, read by range.

Belongs here: their names. Not here: what they hold (`sample_tars`), and bytes (`got_core.ranged_files`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import IO

from got_core.ranged_files import RangedFiles


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
        stored = f"{self._name}-{self._digest.hexdigest()[:16]}.tar"
        self._place.put(self._file, stored)
        return stored


class TarStorage(RangedFiles):
    """Tars below a storage's URL."""

    prefix = ".tar-"

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[NewTar]:
        """A tar to write and publish."""
        with self.partial(name) as file:
            yield NewTar(file, self, name)
