"""Which rows a training draws when: every row of a pool once an epoch, a function of seed and position alone.

A pool is what may share a batch: rows of one group of the mixture and one picture size. Draw by draw one of
them is chosen; the n-th draw of a pool takes the n-th part of that pool's endless sequence of epochs. An
epoch is cut into blocks of rows that are stored side by side; the blocks are permuted, and rows are shuffled
inside windows of blocks. Nothing is kept of what was drawn, so a training goes on at any step, and neither
workers nor decoder processes change what is drawn.
Belongs here: positions and permutations. Not here: which rows make a pool (``batches``), and reading them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

BLOCK = 64
"""Rows side by side that stay in one window of an epoch."""
WINDOW = 256
"""Blocks that are shuffled together."""
_CHUNK = 4096
"""Draws whose pools are chosen at once."""
_KEPT = 2
"""Windows of a pool that are kept: a draw may lie across two."""
_POOLS, _BLOCKS, _ROWS = 5, 6, 7
"""Last numbers of the generators' keys, apart from those of ``samples`` and ``substitutes``."""


class DrawOrder:
    """The pools and rows of a training's draws.

    Args:
        sizes: number of rows of each pool, at least 1.
        shares: of draws, of each pool; they sum to 1.
        samples: rows of a draw.
        seed: of the training.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], *, samples: int, seed: int) -> None:
        cumulative = np.cumsum(shares)
        self._bounds = cumulative[:-1] / cumulative[-1]
        self._samples = samples
        self._orders = [PoolOrder(size, seed, number) for number, size in enumerate(sizes)]
        self._rng = np.random.default_rng([seed, _POOLS])
        self._counts = np.zeros(len(sizes), dtype=np.int64)
        self._pools = np.zeros(0, dtype=np.int32)
        self._numbers = np.zeros(0, dtype=np.int64)

    def pool(self, draw: int) -> int:
        """The pool of a draw, by its number since the first step."""
        self._choose(draw)
        return int(self._pools[draw])

    def places(self, draw: int) -> np.ndarray:
        """Places in its pool of the rows of a draw, int32; they repeat only where an epoch ends within it."""
        pool = self.pool(draw)
        return self._orders[pool].places(int(self._numbers[draw]) * self._samples, self._samples)

    def _choose(self, draw: int) -> None:
        """Choose the pools up to a draw. One generator for all: a longer training begins like a shorter."""
        while len(self._pools) <= draw:
            chosen = np.searchsorted(self._bounds, self._rng.random(_CHUNK), side="right").astype(np.int32)
            numbers = np.empty(_CHUNK, dtype=np.int64)
            for pool in np.unique(chosen):
                mine = np.flatnonzero(chosen == pool)
                numbers[mine] = self._counts[pool] + np.arange(len(mine))
                self._counts[pool] += len(mine)
            self._pools = np.concatenate([self._pools, chosen])
            self._numbers = np.concatenate([self._numbers, numbers])


class PoolOrder:
    """The endless sequence of one pool: epoch after epoch, each with every place 0 ... ``size`` - 1 once.

    Raises ValueError for a pool without a row.
    """

    def __init__(self, size: int, seed: int, number: int) -> None:
        if size < 1:
            raise ValueError(f"pool {number} has no row; a pool needs at least 1")
        self.size = size
        self._key = (seed, number)
        self._blocks = -(-size // BLOCK)
        self._missing = self._blocks * BLOCK - size
        """Places that the last block is short of."""
        self._permuted: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()
        self._windows: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()

    def places(self, first: int, count: int) -> np.ndarray:
        """``count`` places from position ``first`` of the sequence on, int32."""
        found = np.empty(count, dtype=np.int32)
        done = 0
        while done < count:
            epoch, position = divmod(first + done, self.size)
            window, start = self._window_at(epoch, position)
            part = window[position - start : position - start + count - done]
            found[done : done + len(part)] = part
            done += len(part)
        return found

    def _window_at(self, epoch: int, position: int) -> tuple[np.ndarray, int]:
        """The window of an epoch that holds a position, and the position at which it begins."""
        order = _kept(self._permuted, (epoch,), self._permutation)
        short = int(np.flatnonzero(order == self._blocks - 1)[0]) // WINDOW

        def start(window: int) -> int:
            return window * WINDOW * BLOCK - (self._missing if window > short else 0)

        number = position // (WINDOW * BLOCK)
        number += start(number + 1) <= position
        return _kept(self._windows, (epoch, number), self._window), start(number)

    def _permutation(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([*self._key, epoch, _BLOCKS])
        return rng.permutation(np.arange(self._blocks, dtype=np.int32))

    def _window(self, epoch: int, number: int) -> np.ndarray:
        order = _kept(self._permuted, (epoch,), self._permutation)
        blocks = order[number * WINDOW : (number + 1) * WINDOW]
        places = (blocks[:, None] * BLOCK + np.arange(BLOCK, dtype=np.int32)).ravel()
        rng = np.random.default_rng([*self._key, epoch, number, _ROWS])
        return rng.permutation(places[places < self.size])


def _kept(
    cache: OrderedDict[tuple[int, ...], np.ndarray],
    key: tuple[int, ...],
    make: Callable[..., np.ndarray],
) -> np.ndarray:
    """What was made of a key, made where it is not among the last ones."""
    if key not in cache:
        cache[key] = make(*key)
        while len(cache) > _KEPT:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]
