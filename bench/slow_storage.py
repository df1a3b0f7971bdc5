"""A storage behind a slow line: what is written takes its time, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, Any

from got_core.storage import Storage

PIECE = 256 * 1024


class SlowStorage(Storage):
    """A storage that takes ``bytes_per_second`` from each of its writers; reading is as fast as ever."""

    def __init__(self, url: str, *, bytes_per_second: float, **fs_options: Any) -> None:
        super().__init__(url, **fs_options)
        self.bytes_per_second = bytes_per_second

    def _write(self, path: str, fill: Callable[[IO[bytes]], object], *, exclusive: bool) -> None:
        super()._write(path, lambda file: fill(_SlowFile(file, self.bytes_per_second)), exclusive=exclusive)  # type: ignore[arg-type]


class _SlowFile:
    """A file that is written piece by piece, each no sooner than the line would have carried it."""

    def __init__(self, file: IO[bytes], bytes_per_second: float) -> None:
        self._file, self._rate = file, bytes_per_second

    def write(self, data: bytes) -> int:
        started, view = time.monotonic(), memoryview(data)
        for start in range(0, len(view), PIECE):
            piece = view[start : start + PIECE]
            self._file.write(piece)
            time.sleep(max(0.0, started + (start + len(piece)) / self._rate - time.monotonic()))
        return len(view)
