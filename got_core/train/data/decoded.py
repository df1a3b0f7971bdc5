"""Decoded rows, and the memory that keeps some of them.

Belongs here: pictures that are resized and not yet cut. Not here: reading and cutting them (``samples``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from got_core.chain.grammar import Chain
from got_core.model.buckets import Size

Key = tuple[int, int]
"""A row, and index of the size that it is resized for."""


@dataclass(frozen=True)
class Decoded:
    """A row's pictures, resized and not yet cut."""

    row: dict[str, Any]
    chain: Chain
    original: Size
    target: np.ndarray
    source: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Bytes of its pictures."""
        return self.target.nbytes + (0 if self.source is None else self.source.nbytes)


class DecodedCache:
    """Decoded rows, by row and bucket, up to a number of bytes; the least recently used ones go first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._rows: OrderedDict[Key, Decoded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Decoded | None:
        """A row that is kept, which counts as used now; None where it is not."""
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def put(self, key: Key, decoded: Decoded) -> None:
        """Keep a row, and let go of others where the limit is passed."""
        with self._lock:
            if key in self._rows:
                return
            self._rows[key] = decoded
            self.nbytes += decoded.nbytes
            while self.nbytes > self.limit:
                self.nbytes -= self._rows.popitem(last=False)[1].nbytes
