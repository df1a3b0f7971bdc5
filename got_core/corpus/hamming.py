"""Exact search among 64-bit hashes by the number of bits in which they differ.

Belongs here: all pairs within a distance, the nearest reference, and groups around leaders, each in memory
that does not grow with the number of near pairs (all pairs apart). Does not belong here: how hashes are made
and what else makes pictures alike (``duplicates``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

BITS = 64
NONE = np.iinfo(np.int64).max
"""The score of a row that nothing is near to. Others are the distance, then the reference: the least wins."""
_SHIFT = 48
"""Bits of a score that hold the reference."""
_CHUNK = 1 << 21
"""Candidate pairs compared at once: some 100 MB."""
_FEW = 512
"""Rows that are compared each with each."""
_PARTS = 16

Alike = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A further condition on candidates: indices of queries and references to a mask."""


class Pairs(NamedTuple):
    """Near pairs, sorted by query, then reference: two indices (int64) and their distance in bits (uint8)."""

    query: np.ndarray
    reference: np.ndarray
    distance: np.ndarray


def near_pairs(
    queries: np.ndarray, references: np.ndarray | None, max_distance: int, alike: Alike | None = None
) -> Pairs:
    """All pairs of uint64 hashes at most ``max_distance`` bits apart, exactly.

    ``references`` None: pairs within ``queries``, each once, the reference being the earlier one. The 64
    bits are cut into more blocks than bits may differ; two near hashes agree in some of the blocks, so one
    sort for each choice of blocks brings every pair together. How many are chosen grows with the number of
    references, which keeps the candidates of a query few. Of n hashes that are all near there are n² / 2
    pairs: see :func:`leaders_of` for groups and :func:`nearest` for one answer a query.
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
    score = np.full(len(queries), NONE)
    for mask in _masks(len(references), max_distance):
        for q, r in _candidates(queries, references, mask):
            distance = np.bitwise_count(queries[q] ^ references[r])
            _lower(score, q, _scores(distance, r, distance <= max_distance))
    return _reference(score)


def leaders_of(hashes: np.ndarray, max_distance: int, alike: Alike | None = None) -> np.ndarray:
    """Groups of near hashes (uint64, n): per row the index of its leader (int64), -1 for a leader itself.

    Rows count in their order. One that is near to no earlier leader is a leader; every other one belongs to
    the nearest earlier leader, of several the first. So no two leaders are near to each other, each member
    is near to its leader, and rows that are appended change nothing. Near: at most ``max_distance`` bits
    apart, and ``alike``. The answer is exact. Work grows with the rows and, where hashes crowd, with the
    leaders among them, never with the pairs of members; memory with the rows alone.
    """
    grouping = _Grouping(hashes, max_distance, alike)
    grouping.decide(np.arange(len(hashes)))
    return _reference(grouping.score)


class _Grouping:
    """Decides rows part by part: against the leaders of the parts before, then among what is left."""

    def __init__(self, hashes: np.ndarray, max_distance: int, alike: Alike | None) -> None:
        self._hashes, self._limit, self._alike = hashes, max_distance, alike
        self.score = np.full(len(hashes), NONE)

    def decide(self, rows: np.ndarray) -> np.ndarray:
        """Scores of rows that are near to no leader outside them; returns the leaders among them."""
        if len(rows) <= _FEW:
            return self._decide_few(rows)
        size = max(_FEW, -(-len(rows) // _PARTS))
        index = _Index(_masks(len(rows), self._limit))
        found = []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            self._compare(part, index)
            near = self.score[part] != NONE
            fresh = self.decide(part[~near])
            if near.any() and len(fresh):  # one of these may be nearer than those of the parts before
                own = _Index(_masks(len(fresh), self._limit))
                own.add(self._hashes, fresh)
                self._compare(part[near], own)
            index.add(self._hashes, fresh)
            found.append(fresh)
        return np.concatenate(found)

    def _compare(self, rows: np.ndarray, index: _Index) -> None:
        for at, reference in index.candidates(self._hashes[rows]):
            query = rows[at]
            distance = np.bitwise_count(self._hashes[query] ^ self._hashes[reference])
            near = np.flatnonzero((distance <= self._limit) & (reference < query))
            query, reference, distance = query[near], reference[near], distance[near]
            if self._alike is not None and len(near):
                kept = self._alike(query, reference)
                query, reference, distance = query[kept], reference[kept], distance[kept]
            _lower(self.score, query, _scores(distance, reference))

    def _decide_few(self, rows: np.ndarray) -> np.ndarray:
        """Each with each, then in order: only leaders are repeated."""
        hashes = self._hashes[rows]
        distance = np.bitwise_count(hashes[:, None] ^ hashes[None])
        near = (distance <= self._limit) & np.tri(len(rows), k=-1, dtype=bool)
        later, earlier = np.nonzero(near)
        if self._alike is not None and len(later):
            near[later, earlier] = self._alike(rows[later], rows[earlier])
        leads = np.ones(len(rows), dtype=bool)
        for at in np.flatnonzero(near.any(axis=1)):
            others = np.flatnonzero(near[at] & leads)
            if len(others):
                leads[at] = False
                self.score[rows[at]] = _scores(distance[at, others], rows[others]).min()
        return rows[leads]


class _Index:
    """Rows sorted by their bits under each mask; grows."""

    def __init__(self, masks: list[np.uint64]) -> None:
        empty = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int32)
        self._sorted = {mask: empty for mask in masks}

    def add(self, hashes: np.ndarray, rows: np.ndarray) -> None:
        """Take rows in."""
        new = hashes[rows]
        for mask, (keys, known) in self._sorted.items():
            order = np.argsort(new & mask)
            added = (new & mask)[order]
            places = np.searchsorted(keys, added)
            there = np.insert(known, places, rows[order].astype(np.int32))
            self._sorted[mask] = np.insert(keys, places, added), there

    def candidates(self, queries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of queries and rows that agree with them on the bits of a mask, in chunks."""
        for mask, (keys, known) in self._sorted.items():
            yield from _matches(queries & mask, keys, known)


def _scores(distance: np.ndarray, reference: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
    score = (distance.astype(np.int64) << _SHIFT) | reference
    return score if near is None else np.where(near, score, NONE)


def _lower(score: np.ndarray, query: np.ndarray, found: np.ndarray) -> None:
    """Take what is less than the score so far; equal queries stand together."""
    if len(query):
        starts = np.flatnonzero(np.diff(query, prepend=query[0] - 1))
        places = query[starts]
        score[places] = np.minimum(score[places], np.minimum.reduceat(found, starts))


def _reference(score: np.ndarray) -> np.ndarray:
    return np.where(score == NONE, -1, score & ((1 << _SHIFT) - 1))


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
    """Index pairs that agree on the mask's bits, in chunks; equal queries stand together."""
    if references is not None:
        targets = np.argsort(references & mask, kind="stable")
        yield from _matches(queries & mask, (references & mask)[targets], targets)
        return
    keys = queries & mask
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    yield from _spread(order, order, np.searchsorted(keys, keys, "left"), np.arange(len(keys)))


def _matches(
    queries: np.ndarray, keys: np.ndarray, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of queries and rows of equal keys, which are sorted."""
    order = np.argsort(queries, kind="stable")  # neighbours in memory make the look-ups fast
    wanted = queries[order]
    low, high = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
    yield from _spread(order, rows, low, high)


def _spread(
    order: np.ndarray, targets: np.ndarray, low: np.ndarray, high: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each of `order` with the targets from low to high, in chunks."""
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
