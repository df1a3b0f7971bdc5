"""Numbers of a manifest's rows by which they are chosen, so that no text is read to choose.

Belongs here: what the numbers are, and how they follow from rows. Not here: where they are kept
(``manifest``, ``manifest_file``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from got_core.model.buckets import Size, nearest_bucket
from got_core.train.config import KINDS
from got_core.train.mixture import TURNS, turns_of

NONE = -1
"""In place of a number that a row lacks: another kind, turns of what is no edit, no source, no size."""
COLUMNS: dict[str, type[np.generic]] = {
    "kind": np.int8,
    "turns": np.int8,
    "source": np.int32,
    "place": np.float64,
    "width": np.int32,
    "height": np.int32,
}
"""``kind`` and ``turns``: places in KINDS and TURNS; ``source``: place in the list of sources; ``place``: see
:func:`held_out_place`; ``width`` and ``height`` in pixels."""
_AT_ONCE = 1 << 14
_NEAR = 1e-9
"""Distances of logarithms closer than this may be in another order in another arithmetic."""


class ColumnMaker:
    """Makes the numbers of batches of rows, one batch after the other; ``sources`` grows meanwhile."""

    def __init__(self) -> None:
        self._sources: dict[str, int] = {}

    @property
    def sources(self) -> list[str]:
        """Names of sources so far, by their numbers."""
        return list(self._sources)

    def of(self, batch: pa.RecordBatch, name: str) -> np.ndarray:
        """A column (see COLUMNS) of a batch."""
        if name == "kind":
            return _kinds(batch)
        if name == "turns":
            return _turns(batch)
        if name == "source":
            return self._source(batch)
        if name == "place":
            ids = batch.column("sample_id").to_pylist()
            return np.fromiter(map(held_out_place, ids), np.float64, len(ids))
        return _pixels(batch, name)

    def _source(self, batch: pa.RecordBatch) -> np.ndarray:
        if "source" not in batch.schema.names:
            return np.full(batch.num_rows, NONE, np.int32)
        found = pc.unique(batch.column("source")).drop_null()
        for name in found.to_pylist():
            self._sources.setdefault(name, len(self._sources))
        numbers = np.array([*(self._sources[name] for name in found.to_pylist()), NONE], np.int32)
        return numbers[_places(batch.column("source"), found)]


def held_out_place(sample_id: str) -> float:
    """Where a sample stands between 0 and 1, by its id alone: a share is held out from 0 on.

    So it is the same split for every stage, seed and manifest.
    """
    return int.from_bytes(hashlib.sha256(f"held out {sample_id}".encode()).digest()[:6], "big") / 2**48


def nearest_buckets(width: np.ndarray, height: np.ndarray, sizes: Sequence[Size]) -> np.ndarray:
    """``buckets.nearest_bucket`` of pictures of known sizes, int16 (N,)."""
    buckets = np.empty(len(width), np.int16)
    aspects = np.log([one[0] / one[1] for one in sizes])
    for start in range(0, len(width), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        buckets[part] = _nearest(width[part], height[part], aspects, sizes)
    return buckets


def _nearest(width: np.ndarray, height: np.ndarray, aspects: np.ndarray, sizes: Sequence[Size]) -> np.ndarray:
    distances = np.abs(aspects - np.log(width / height)[:, None])
    chosen = distances.argmin(axis=1)
    near = distances <= distances.min(axis=1, keepdims=True) + _NEAR
    exact: dict[Size, int] = {}
    for row in np.flatnonzero(near.sum(axis=1) > 1).tolist():
        size = int(width[row]), int(height[row])
        if size not in exact:
            exact[size] = nearest_bucket(size, sizes)
        chosen[row] = exact[size]
    return chosen


def _kinds(batch: pa.RecordBatch) -> np.ndarray:
    return _places(batch.column("kind"), pa.array(KINDS)).astype(np.int8)


def _turns(batch: pa.RecordBatch) -> np.ndarray:
    turns = np.full(batch.num_rows, NONE, np.int8)
    edits = np.flatnonzero(_kinds(batch) == KINDS.index("edit"))
    if not len(edits):
        return turns
    texts = (batch.column(name).take(pa.array(edits)).to_pylist() for name in ("chain", "prompt"))
    turns[edits] = [TURNS.index(turns_of(*pair)) for pair in zip(*texts, strict=True)]
    return turns


def _places(values: pa.Array, names: pa.Array) -> np.ndarray:
    """Place of each value among the names; NONE where it is none of them."""
    if not len(names):
        return np.full(len(values), NONE, np.int32)
    found = pc.index_in(values, value_set=names.cast(values.type), skip_nulls=True)
    return pc.fill_null(found, NONE).to_numpy(zero_copy_only=False)


def _pixels(batch: pa.RecordBatch, name: str) -> np.ndarray:
    if name not in batch.schema.names:
        return np.full(batch.num_rows, NONE, np.int32)
    known = pc.fill_null(batch.column(name).cast(pa.int32()), NONE)
    return known.to_numpy(zero_copy_only=False)
