"""Near duplicates: both limits, no chains, the nearest leader."""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image

from got_core.corpus.duplicates import GRID, Fingerprint, fingerprint, near_duplicates


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
