"""Near duplicates: perceptual fingerprints, and exact search among millions of them.

Belongs here: fingerprints, all pairs within a Hamming distance, and which picture repeats which. Does not
belong here: exact duplicates (equal bytes, folded by ``ingest`` and by the manifest), and whether a repeat is
left out (``got_core.curate``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image

GRID = 4
BITS = 64
FEW_BITS = 8
"""Bits set of an informative hash, at least: a plain area has at most one, a smooth gradient a few."""
FLAT = 8
"""Levels by which the cells of a picture without features differ, at most."""
_CHUNK = 1 << 21
"""Candidate pairs compared at once: some 100 MB."""


class Fingerprint(NamedTuple):
    """A 64-bit hash of the luminance (16 hex digits) and a coarse colour grid (uint8, GRID x GRID x 3)."""

    phash: str
    colors: np.ndarray


class Pairs(NamedTuple):
    """Near pairs, sorted by query, then reference: two indices (int64) and their distance in bits (uint8)."""

    query: np.ndarray
    reference: np.ndarray
    distance: np.ndarray


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


Alike = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A further condition on candidates: indices of queries and references to a mask."""


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
    whole = hashes[:, None].view(np.uint8)
    whole = whole if grids is None else np.hstack([whole, grids])
    _, first, group = np.unique(whole, axis=0, return_index=True, return_inverse=True)
    kept = np.sort(first)
    alike = None if grids is None else _alike_colors(grids[kept], grids[kept], max_color)
    pairs = near_pairs(hashes[kept], None, max_distance, alike)
    result = np.full(len(hashes), -1, dtype=np.int64)
    result[kept] = _follow(pairs, kept)
    same = first[group.reshape(-1)]
    repeats = same != np.arange(len(hashes))
    result[repeats] = np.where(result[same] >= 0, result[same], same)[repeats]
    return result


def near_pairs(
    queries: np.ndarray, references: np.ndarray | None, max_distance: int, alike: Alike | None = None
) -> Pairs:
    """All pairs of uint64 hashes at most ``max_distance`` bits apart, exactly.

    ``references`` None: pairs within ``queries``, each once, the reference being the earlier one. The 64
    bits are cut into more blocks than bits may differ; two near hashes agree in some ``keep`` of the blocks,
    so one sort for each choice of blocks brings every pair together. How many are kept grows with the number
    of references, which keeps the candidates of a query few.
    """
    size = len(queries if references is None else references)
    found = [np.empty((0, 3), dtype=np.int64)]
    for mask in _masks(size, max_distance):
        for q, r in _candidates(queries, references, mask):
            distance = np.bitwise_count(queries[q] ^ (queries if references is None else references)[r])
            near = distance <= max_distance
            q, r, distance = q[near], r[near], distance[near]
            if alike is not None and len(q):
                near = alike(q, r)
                q, r, distance = q[near], r[near], distance[near]
            found.append(np.column_stack([q, r, distance]))
    table = np.unique(np.concatenate(found), axis=0)  # a pair may agree in several choices of blocks
    return Pairs(table[:, 0], table[:, 1], table[:, 2].astype(np.uint8))


def nearest(queries: np.ndarray, references: np.ndarray, max_distance: int) -> np.ndarray:
    """Per query the index of its nearest reference within the distance (the first of several), else -1."""
    pairs = near_pairs(queries, references, max_distance)
    order = np.lexsort((pairs.reference, pairs.distance, pairs.query))
    query, first = np.unique(pairs.query[order], return_index=True)
    result = np.full(len(queries), -1, dtype=np.int64)
    result[query] = pairs.reference[order][first]
    return result


def _masks(size: int, max_distance: int) -> list[np.uint64]:
    """Bit masks such that two hashes within the distance agree on all bits of at least one of them."""
    if max_distance <= 0:
        return [np.uint64(2**BITS - 1)]
    # Kept bits should number the references: fewer give crowded buckets, more only cost sorts.
    fits = (keep for keep in (1, 2) if 4 * 2 ** (BITS * keep // (max_distance + keep)) >= size)
    keep = next(fits, 3)
    edges = np.linspace(0, BITS, max_distance + keep + 1).round().astype(int).tolist()
    blocks = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    return [np.uint64(sum(chosen)) for chosen in combinations(blocks, keep)]


def _candidates(
    queries: np.ndarray, references: np.ndarray | None, mask: np.uint64
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index pairs that agree on the mask's bits, in chunks."""
    keys = queries & mask
    order = np.argsort(keys, kind="stable")  # neighbours in memory make the look-ups fast
    keys = keys[order]
    if references is None:
        targets = order
        low, high = np.searchsorted(keys, keys, "left"), np.arange(len(keys))
    else:
        targets = np.argsort(references & mask, kind="stable")
        other = (references & mask)[targets]
        low, high = np.searchsorted(other, keys, "left"), np.searchsorted(other, keys, "right")
    counts = high - low
    busy = np.flatnonzero(counts)
    order, low, counts = order[busy], low[busy], counts[busy]
    for part in _slices(counts):
        many, start = counts[part], low[part]
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        yield np.repeat(order[part], many), targets[np.repeat(start, many) + within]


def _slices(counts: np.ndarray) -> Iterator[slice]:
    """Consecutive rows whose counts sum up to about a chunk."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + _CHUNK, "right")))
        yield slice(start, stop)
        start = stop


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


def _follow(pairs: Pairs, kept: np.ndarray) -> np.ndarray:
    """Leaders in one pass over the near pairs, in order: only leaders are repeated."""
    result = np.full(len(kept), -1, dtype=np.int64)
    query, start = np.unique(pairs.query, return_index=True)
    stop = np.append(start, len(pairs.query))[1:]
    for index, low, high in zip(query.tolist(), start, stop, strict=False):
        others = pairs.reference[low:high]
        free = result[others] < 0
        if free.any():
            nearest_first = np.argmin(np.where(free, pairs.distance[low:high], BITS + 1))
            result[index] = kept[others[nearest_first]]
    return result
