"""Search by bits and groups of near hashes: the same as comparing all, also where hashes crowd."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from got_core.corpus.duplicates import hash_bits, leaders
from got_core.corpus.hamming import leaders_of, near_pairs, nearest

ONE = np.uint64(1)


@pytest.mark.parametrize("distance", [0, 1, 4, 8])
def test_the_search_finds_exactly_the_pairs_that_a_full_comparison_finds(distance: int) -> None:
    rng = np.random.default_rng(distance)
    base = rng.integers(0, 2**63, 300, dtype=np.uint64)
    near = base.copy()
    for _ in range(distance + 2):
        near ^= np.uint64(1) << rng.integers(0, 64, 300).astype(np.uint64)
    hashes = rng.permutation(np.concatenate([base, near]))
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None])
    later, earlier = np.nonzero((bits <= distance) & np.tri(600, k=-1, dtype=bool))
    pairs = near_pairs(hashes, None, distance)
    assert (pairs.query == later).all() and (pairs.reference == earlier).all()
    best = bits[:200, 200:].argmin(axis=1)
    expected = np.where(bits[:200, 200:].min(axis=1) <= distance, best, -1)
    assert (nearest(hashes[:200], hashes[200:], distance) == expected).all()


def in_order(hashes: np.ndarray, distance: int, levels: np.ndarray, limit: int) -> list[int]:
    """Leaders by the definition alone: each row against every leader before it."""
    found: list[int] = []
    for row in range(len(hashes)):
        lead = [at for at in range(row) if found[at] < 0]
        bits = [int(hashes[row] ^ hashes[at]).bit_count() for at in lead]
        near = [
            (b, at)
            for b, at in zip(bits, lead, strict=True)
            if b <= distance and abs(int(levels[row]) - int(levels[at])) <= limit
        ]
        found.append(min(near)[1] if near else -1)
    return found


def flipped(hashes: np.ndarray, flips: int, rng: np.random.Generator, bits: int = 64) -> np.ndarray:
    """Up to so many of the lowest bits turned over."""
    for _ in range(flips):
        hashes = hashes ^ (ONE << rng.integers(0, bits, len(hashes)).astype(np.uint64))
    return hashes


Make = Callable[[np.random.Generator, int], np.ndarray]

SETS: dict[str, Make] = {
    "random": lambda rng, n: rng.integers(0, 2**64, n, dtype=np.uint64),
    "all equal": lambda rng, n: np.full(n, 0x0F0F0F0F0F0F0F0F, dtype=np.uint64),
    "blank pictures": lambda rng, n: np.zeros(n, dtype=np.uint64),
    "two of blank": lambda rng, n: rng.integers(0, 2, n).astype(np.uint64) << np.uint64(63),
    "a chain": lambda rng, n: np.bitwise_xor.accumulate(ONE << (np.arange(n) % 64).astype(np.uint64)),
    "one crowd": lambda rng, n: flipped(np.full(n, 2**40 - 1, dtype=np.uint64), 4, rng),
    "crowds": lambda rng, n: flipped(rng.choice(rng.integers(0, 2**64, 9, dtype=np.uint64), n), 5, rng),
    "one block apart": lambda rng, n: rng.integers(0, 2**11, n).astype(np.uint64) << np.uint64(21),
    "two blocks apart": lambda rng, n: rng.integers(0, 2**22, n).astype(np.uint64),
    "late crowd": lambda rng, n: np.append(
        rng.integers(0, 2**64, n - n // 3, dtype=np.uint64),
        flipped(np.full(n // 3, 2**40 - 1, dtype=np.uint64), 3, rng),
    ),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("distance", [0, 1, 4])
def test_groups_are_those_of_the_definition(
    name: str, distance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("got_core.corpus.hamming._FEW", 8)
    monkeypatch.setattr("got_core.corpus.hamming._CHUNK", 100)
    rng = np.random.default_rng(len(name) + distance)
    hashes = SETS[name](rng, 600)
    levels = rng.integers(0, 3, 600) * 20

    def alike(query: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return np.abs(levels[query] - levels[reference]) <= 20

    assert leaders_of(hashes, distance, alike).tolist() == in_order(hashes, distance, levels, 20)
    assert leaders_of(hashes, distance).tolist() == in_order(hashes, distance, levels, 255)


def test_more_rows_than_are_compared_each_with_each() -> None:
    rng = np.random.default_rng(3)
    hashes = SETS["crowds"](rng, 1500)
    assert leaders_of(hashes, 4).tolist() == in_order(hashes, 4, np.zeros(1500), 0)


def test_leaders_do_not_change_when_rows_are_appended() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 400, dtype=np.uint64)
    hashes = rng.choice(base, 2000) ^ (np.uint64(1) << rng.integers(0, 64, 2000).astype(np.uint64))
    colors = rng.integers(0, 3, (2000, 3), dtype=np.uint8) * 40
    whole, part = leaders(hashes, colors, 3, 50), leaders(hashes[:1200], colors[:1200], 3, 50)
    assert (whole[:1200] == part).all() and (whole >= 0).sum() > 500
    repeats = np.flatnonzero(whole >= 0)
    assert (whole[whole[repeats]] == -1).all(), "only leaders are repeated"
    assert (np.bitwise_count(hashes[repeats] ^ hashes[whole[repeats]]) <= 3).all()
    assert leaders(hash_bits([]), None, 3, 0).tolist() == []


def test_the_memory_of_a_crowd_does_not_grow_with_its_pairs() -> None:
    rng = np.random.default_rng(0)
    hashes = SETS["one crowd"](rng, 30_000)
    colors = rng.integers(0, 200, (30_000, 3), dtype=np.uint8)
    tracemalloc.start()
    try:
        found = leaders(hashes, colors, 4, 255)
        nearest(hashes, hashes[:2000], 4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found >= 0).sum() > 20_000
    assert peak < 400e6, "their pairs alone would take more than 1 GB"
