"""Near duplicates: both limits, no chains, the nearest leader."""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image

from got_core.corpus.duplicates import (
    GRID,
    Copies,
    Fingerprint,
    fingerprint,
    near_copies,
    near_duplicates,
    prints_of,
)


def of(bits: int, level: int = 100) -> Fingerprint:
    return Fingerprint(f"{bits:016x}", np.full((GRID, GRID, 3), level, dtype=np.uint8))


def test_the_hash_distance_counts_bits_inclusively() -> None:
    assert near_duplicates([of(0), of(0b1111)], 4, 24) == [None, 0]
    assert near_duplicates([of(0), of(0b11111)], 4, 24) == [None, None]
    assert near_duplicates([of(0), of(1 << 63)], 4, 24) == [None, 0]


def test_equal_hashes_of_unlike_colours_are_no_duplicates() -> None:
    assert near_duplicates([of(0, 100), of(0, 124)], 4, 24) == [None, 0]
    assert near_duplicates([of(0, 100), of(0, 125)], 4, 24) == [None, None]
    assert near_duplicates([of(0, 0), of(0, 255)], 4, 24) == [None, None]


def test_a_repeat_leads_nobody() -> None:
    assert near_duplicates([of(0), of(0b111), of(0b111111)], 4, 24) == [None, 0, None]


def test_the_nearest_leader_of_like_colours_wins() -> None:
    prints = [of(0), of(0b11111), of(0b11111, 200), of(0b1111)]
    assert near_duplicates(prints, 4, 24) == [None, None, None, 1]
    assert near_duplicates([], 4, 24) == []


def test_the_hash_is_imagehash_phash_in_hex() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    made = fingerprint(picture)
    assert imagehash.hex_to_hash(made.phash) == imagehash.phash(picture)
    assert np.allclose(made.colors, noise.reshape(4, 16, 4, 16, 3).mean((1, 3)), rtol=0, atol=2)


HALF = 0x00000000FFFFFFFF
"""A hash that says something."""


def copies(*prints: tuple[int, int | None]) -> Copies:
    """Copies of the first hash and level among the others; level None: the grid is not known."""
    grids = [None if level is None else of(0, level).colors.tobytes() for _, level in prints]
    made = prints_of([f"{bits:016x}" for bits, _ in prints], grids)
    first, others = (type(made)(*(column[part] for column in made)) for part in (slice(1), slice(1, None)))
    return near_copies(others, first, 4, 24)


def test_copies_pass_both_limits_of_near_duplicates() -> None:
    found = copies((HALF, 100), (HALF ^ 0b1111, 124), (HALF ^ 0b11111, 100), (HALF, 125), (HALF, 100))
    assert (found.query.tolist(), found.distance.tolist(), found.color.tolist()) == ([0, 3], [4, 0], [24, 0])


def test_where_colours_are_not_known_the_hash_has_to_say_something() -> None:
    assert copies((HALF, None), (HALF, None)).color.tolist() == [-1]
    assert copies((HALF, None), (HALF, 100)).query.tolist() == [], "known to be plain"
    for bits in (0, 1 << 63, 0b1111111):
        assert copies((bits, None), (bits, None)).query.tolist() == []
        assert copies((bits, 100), (bits, 100)).query.tolist() == [0]
    assert copies((HALF, None)).query.tolist() == []
