"""Groups of near hashes against taking all pairs within the distance first, on the same hashes.

A part of the hashes is near-equal: one picture with a few bits turned over. The other side is the plain way,
exact as well: all near pairs, then one pass over them in order. Seconds are of the processor. BENCH_HASHES
sets the size at which both run (a twenty-fifth near-equal); then groups alone at five times that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from multiprocessing import get_context

import numpy as np

from got_core.corpus.hamming import leaders_of, near_pairs

HASHES = int(os.environ.get("BENCH_HASHES", "100000"))
DISTANCE = 4


def hashes_of(count: int) -> np.ndarray:
    """Random ones, every 25th with up to three bits of one picture turned over."""
    rng = np.random.default_rng(0)
    made = rng.integers(0, 2**64, count, dtype=np.uint64)
    crowd = rng.choice(count, count // 25, replace=False)
    made[crowd] = np.uint64(2**40 - 1)
    for _ in range(3):
        made[crowd] ^= np.uint64(1) << rng.integers(0, 64, len(crowd)).astype(np.uint64)
    return made


def by_pairs(hashes: np.ndarray) -> np.ndarray:
    """The same answer from all pairs."""
    pairs = near_pairs(hashes, None, DISTANCE)
    result = np.full(len(hashes), -1, dtype=np.int64)
    query, start = np.unique(pairs.query, return_index=True)
    stops = [*start.tolist()[1:], len(pairs.query)]
    for row, low, high in zip(query.tolist(), start.tolist(), stops, strict=True):
        others = pairs.reference[low:high]
        free = result[others] < 0
        if free.any():
            result[row] = others[np.argmin(np.where(free, pairs.distance[low:high], 255))]
    return result


def by_leaders(hashes: np.ndarray) -> np.ndarray:
    """As curation does."""
    return leaders_of(hashes, DISTANCE)


def measured(way: Callable[[np.ndarray], np.ndarray], count: int) -> tuple[float, float, np.ndarray]:
    """Processor seconds, peak MiB and the answer, in a fresh process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (way, count))


def _measured(way: Callable[[np.ndarray], np.ndarray], count: int) -> tuple[float, float, np.ndarray]:
    import resource

    hashes = hashes_of(count)
    started = time.process_time()
    found = way(hashes)
    spent = time.process_time() - started
    return spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, found


def main() -> dict[str, float | str]:
    """Seconds and memory of both, their ratios, and of groups at five times the size."""
    ours, theirs = measured(by_leaders, HASHES), measured(by_pairs, HASHES)
    assert (ours[2] == theirs[2]).all(), "both are exact"
    large = measured(by_leaders, 5 * HASHES)
    return {
        "hashes, and near-equal among them": f"{HASHES}, {HASHES // 25}",
        "groups, seconds": ours[0],
        "all pairs, seconds": theirs[0],
        "ratio of the seconds": theirs[0] / ours[0],
        "groups, peak MiB": ours[1],
        "all pairs, peak MiB": theirs[1],
        "five times the hashes: seconds": large[0],
        "five times the hashes: peak MiB": large[1],
    }
