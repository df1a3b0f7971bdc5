"""Near duplicates: perceptual fingerprints, and which picture repeats which among millions.

Belongs here: fingerprints, when two are near, and clusters of them. Does not belong here: the search by bits
(``hamming``), exact duplicates (equal bytes, folded by ``ingest`` and by the manifest), and whether a repeat
is left out (``got_core.curate``).

A cluster is a leader and its repeats. Pictures count in their order: one that is near to no earlier leader
is a leader; any other repeats the nearest earlier leader, of several at the same distance the first. So every
repeat is near to its leader itself (there are no chains), no two leaders are near to each other, and pictures
that come later change no earlier answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from got_core.corpus.hamming import Alike, leaders_of, near_pairs

GRID = 4
FEW_BITS = 8
"""Bits set of an informative hash, at least: a plain area has at most one, a smooth gradient a few."""
FLAT = 8
"""Levels by which the cells of a picture without features differ, at most."""


class Fingerprint(NamedTuple):
    """A 64-bit hash of the luminance (16 hex digits) and a coarse colour grid (uint8, GRID x GRID x 3)."""

    phash: str
    colors: np.ndarray


class Prints(NamedTuple):
    """Fingerprints of n pictures, as arrays."""

    hashes: np.ndarray
    """uint64 (n,)."""
    grids: np.ndarray
    """uint8 (n, GRID * GRID * 3)."""
    known: np.ndarray
    """bool (n,): whether the grid is known; it is zeros where not."""


class Copies(NamedTuple):
    """Pictures that pass for copies, sorted by query, then nearest first: indices (int64), bits of the hash
    (uint8), and levels of the most unlike cell of the colour grid (int16; -1 where a grid is not known)."""

    query: np.ndarray
    reference: np.ndarray
    distance: np.ndarray
    color: np.ndarray


def fingerprint(picture: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB picture; the hash is imagehash's ``phash`` (DCT, 8x8 low frequencies)."""
    import imagehash  # brings scipy, which is slow to load and of no use to those who compare hashes

    colors = np.asarray(picture.resize((GRID, GRID), Image.Resampling.BOX, reducing_gap=2.0))
    return Fingerprint(str(imagehash.phash(picture)), colors)


def hash_bits(phashes: Sequence[str]) -> np.ndarray:
    """Hashes of 16 hex digits as uint64 numbers."""
    joined = bytes.fromhex("".join(phashes))
    return np.frombuffer(joined, dtype=">u8").astype(np.uint64) if joined else np.empty(0, dtype=np.uint64)


def near_duplicates(prints: list[Fingerprint], max_distance: int, max_color: int) -> list[int | None]:
    """For each picture, the index of the earlier one that it nearly repeats, or None.

    Pictures are taken in order; one that repeats nothing earlier becomes a leader, and only leaders are
    repeated, so the result has no chains. Near means at most ``max_distance`` bits of the hash apart and at
    most ``max_color`` levels (0 to 255) in every cell of the colour grid. Of several, the nearest hash wins.
    """
    if not prints or max_distance < 0:
        return [None] * len(prints)
    hashes = hash_bits([one.phash for one in prints])
    grids = np.array([one.colors.reshape(-1) for one in prints], dtype=np.uint8)
    found = leaders(hashes, grids, max_distance, max_color)
    return [None if index < 0 else int(index) for index in found]


def prints_of(phashes: Sequence[str], colors: Sequence[bytes | None]) -> Prints:
    """Stored fingerprints as arrays: hashes of 16 hex digits, grids as bytes or None."""
    cells = GRID * GRID * 3
    known = np.array([one is not None and len(one) == cells for one in colors], dtype=bool)
    rows = [one if there else bytes(cells) for one, there in zip(colors, known, strict=True)]
    grids = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), cells)  # type: ignore[arg-type]
    return Prints(hash_bits(phashes), grids, known)


def near_copies(queries: Prints, references: Prints, max_distance: int, max_color: int) -> Copies:
    """All pairs that pass the test of near duplicates, both limits at once (see `near_duplicates`).

    Where a grid is not known the hash has to do, and only if it is informative: never of plain pictures,
    which all hash alike.
    """
    colors = _alike_colors(queries.grids, references.grids, max_color)
    informative = _informative(queries), _informative(references)

    def alike(query: np.ndarray, reference: np.ndarray) -> np.ndarray:
        both = queries.known[query] & references.known[reference]
        return np.where(both, colors(query, reference), informative[0][query] & informative[1][reference])

    pairs = near_pairs(queries.hashes, references.hashes, max_distance, alike)
    both = queries.known[pairs.query] & references.known[pairs.reference]
    levels = np.full(len(both), -1, dtype=np.int16)
    levels[both] = _levels(queries.grids[pairs.query[both]], references.grids[pairs.reference[both]])
    order = np.lexsort((pairs.reference, levels, pairs.distance, pairs.query))
    return Copies(*(column[order] for column in (pairs.query, pairs.reference, pairs.distance, levels)))


def leaders(hashes: np.ndarray, grids: np.ndarray | None, max_distance: int, max_color: int) -> np.ndarray:
    """The same for arrays of millions: per row the index of its leader (int64), -1 for a leader itself.

    ``hashes`` uint64 (n,), ``grids`` uint8 (n, cells) or None. A row's answer depends on earlier rows alone,
    so rows that are appended change nothing. Rows equal in hash and grid share a leader.
    """
    if not len(hashes):
        return np.empty(0, dtype=np.int64)
    same = _first_equals(hashes, grids)
    kept = np.flatnonzero(same == np.arange(len(hashes)))
    alike = None if grids is None else _alike_colors(grids[kept], grids[kept], max_color)
    found = leaders_of(hashes[kept], max_distance, alike)
    result = np.full(len(hashes), -1, dtype=np.int64)
    result[kept] = np.where(found >= 0, kept[found], -1)
    repeats = same != np.arange(len(hashes))
    result[repeats] = np.where(result[same] >= 0, result[same], same)[repeats]
    return result


def _first_equals(hashes: np.ndarray, grids: np.ndarray | None) -> np.ndarray:
    """Per row the first row of the same hash and grid."""
    import polars as pl  # its hash tables take a tenth of the time of NumPy's sort of rows

    words = hashes[:, None]
    if grids is not None:
        padded = np.pad(grids, ((0, 0), (0, -grids.shape[1] % 8)))
        words = np.hstack([words, padded.view(np.uint64)])
    frame = pl.DataFrame({str(at): words[:, at] for at in range(words.shape[1])})
    first = frame.with_row_index("row").select(pl.col("row").min().over(frame.columns))
    return first["row"].to_numpy().astype(np.int64)


def _alike_colors(queries: np.ndarray, references: np.ndarray, max_color: int) -> Alike:
    def alike(query: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return _levels(queries[query], references[reference]) <= max_color

    return alike


def _levels(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Levels of the most unlike cell, for each pair of grids."""
    return np.abs(left.astype(np.int16) - right).max(axis=1)


def _informative(prints: Prints) -> np.ndarray:
    """Whether each hash is enough by itself: it has bits set, and the picture is not known to be plain."""
    cells = prints.grids.reshape(-1, GRID * GRID, 3)
    plain = prints.known & ((cells.max(axis=1) - cells.min(axis=1)).max(axis=1) <= FLAT)
    return (np.bitwise_count(prints.hashes) >= FEW_BITS) & ~plain
