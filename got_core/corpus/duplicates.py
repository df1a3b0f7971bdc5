"""Near duplicates within a shard.

Belongs here: perceptual fingerprints and which picture repeats which. Does not belong here: exact duplicates
(equal bytes, folded by ``ingest``) and duplicates across shards (the manifest folds equal ids).
"""

from __future__ import annotations

from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image

GRID = 4


class Fingerprint(NamedTuple):
    """A 64-bit hash of the luminance (16 hex digits) and a coarse colour grid (uint8, GRID x GRID x 3)."""

    phash: str
    colors: np.ndarray


def fingerprint(picture: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB picture; the hash is imagehash's ``phash`` (DCT, 8x8 low frequencies)."""
    colors = np.asarray(picture.resize((GRID, GRID), Image.Resampling.BOX, reducing_gap=2.0))
    return Fingerprint(str(imagehash.phash(picture)), colors)


def near_duplicates(prints: list[Fingerprint], max_distance: int, max_color: int) -> list[int | None]:
    """For each picture, the index of the earlier one that it nearly repeats, or None.

    Pictures are taken in order; one that repeats nothing earlier becomes a leader, and only leaders are
    repeated, so the result has no chains. Near means at most ``max_distance`` bits of the hash apart and at
    most ``max_color`` levels (0 to 255) in every cell of the colour grid. Of several, the nearest hash wins.
    """
    result: list[int | None] = []
    leaders: list[int] = []
    hashes = np.array([int(one.phash, 16) for one in prints], dtype=np.uint64)
    grids = np.array([one.colors.reshape(-1) for one in prints], dtype=np.int16)
    for index in range(len(prints)):
        match = _nearest(hashes, grids, leaders, index, max_distance, max_color)
        result.append(match)
        if match is None:
            leaders.append(index)
    return result


def _nearest(
    hashes: np.ndarray, grids: np.ndarray, leaders: list[int], index: int, max_distance: int, max_color: int
) -> int | None:
    if not leaders:
        return None
    distances = np.bitwise_count(hashes[leaders] ^ hashes[index])
    for position in np.argsort(distances, kind="stable"):
        if distances[position] > max_distance:
            return None
        leader = leaders[position]
        if np.abs(grids[leader] - grids[index]).max() <= max_color:
            return leader
    return None
