"""The order of a training: once an epoch, the same from any step on, and mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from got_core.train.data.order import BLOCK, WINDOW, DrawOrder, PoolOrder
from got_core.train.layout import StepLayout

SIZES = st.integers(1, 3 * BLOCK) | st.integers(WINDOW * BLOCK - 70, 2 * WINDOW * BLOCK + 70)
"""Pools below a block, of a few, and about one window or two."""


@settings(deadline=None, max_examples=40)
@given(size=SIZES, seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_every_row_comes_once_an_epoch(size: int, seed: int, epoch: int) -> None:
    found = PoolOrder(size, seed, 0).places(epoch * size, size)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(np.sort(found), np.arange(size))


@settings(deadline=None, max_examples=40)
@given(size=SIZES, first=st.integers(0, 100_000), counts=st.lists(st.integers(1, 400), max_size=4))
def test_a_part_of_the_sequence_is_the_same_however_it_is_asked_for(
    size: int, first: int, counts: list[int]
) -> None:
    order, total = PoolOrder(size, 3, 1), sum(counts)
    parts, at = [], first
    for count in counts:
        parts.append(order.places(at, count))
        at += count
    whole = PoolOrder(size, 3, 1).places(first, total)
    assert np.concatenate([np.zeros(0, dtype=np.int32), *parts]).tolist() == whole.tolist()


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    samples=st.integers(1, 40),
    start=st.integers(0, 9000),
    seed=st.integers(0, 5),
)
def test_a_training_that_goes_on_at_any_step_draws_as_one_that_never_stopped(
    sizes: list[int], samples: int, start: int, seed: int
) -> None:
    shares = [size / sum(sizes) for size in sizes]
    through, resumed = (DrawOrder(sizes, shares, samples=samples, seed=seed) for _ in "ab")
    early = [through.places(draw).tolist() for draw in range(3)]
    through.pool(20_000)
    for draw in (start, start + 1):
        assert through.pool(draw) == resumed.pool(draw)
        assert through.places(draw).tolist() == resumed.places(draw).tolist()
    assert early == [through.places(draw).tolist() for draw in range(3)], "more draws change nothing earlier"


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=3), samples=st.integers(1, 7))
def test_draws_of_a_pool_follow_each_other_through_its_epochs(sizes: list[int], samples: int) -> None:
    shares = [size / sum(sizes) for size in sizes]
    order = DrawOrder(sizes, shares, samples=samples, seed=1)
    drawn: dict[int, list[int]] = {}
    for draw in range(120):
        drawn.setdefault(order.pool(draw), []).extend(order.places(draw).tolist())
    for pool, places in drawn.items():
        size = sizes[pool]
        for start in range(0, len(places) - size + 1, size):
            assert sorted(places[start : start + size]) == list(range(size))
        rest = places[len(places) // size * size :]
        assert len(set(rest)) == len(rest)


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
def test_all_workers_together_take_a_draws_rows_whatever_their_number(workers: int) -> None:
    order = DrawOrder([50], [1.0], samples=12, seed=0)
    layout = StepLayout(samples=24, draws=2, workers=workers, largest_batch=2)
    rows: list[int] = []
    for step in range(2):
        of_step = [one for rank in range(workers) for one in layout.passes(step, rank)]
        for one in sorted(of_step, key=lambda one: (one.draw, one.indices.start)):
            places = order.places(one.draw)
            rows += [int(places[index % 12]) for index in one.indices]
    assert rows == PoolOrder(50, 0, 0).places(0, 48).tolist()


def test_pools_are_chosen_in_their_shares() -> None:
    order = DrawOrder([10, 10, 10], [0.5, 0.2, 0.3], samples=1, seed=4)
    pools = [order.pool(draw) for draw in range(10_000)]
    for pool, share in enumerate((0.5, 0.2, 0.3)):
        assert pools.count(pool) / 10_000 == pytest.approx(share, abs=0.02)


def test_rows_are_mixed_and_otherwise_in_each_epoch_seed_and_pool() -> None:
    size = 4 * WINDOW * BLOCK
    first = PoolOrder(size, 0, 0).places(0, size)
    # Blocks come from everywhere: a window holds rows of all parts of the pool.
    parts = np.histogram(first[: WINDOW * BLOCK], bins=8, range=(0, size))[0]
    assert parts.min() > 0.6 * WINDOW * BLOCK / 8
    neighbours = np.mean(np.abs(np.diff(first[:10_000])) == 1)
    assert neighbours < 0.01
    others = [PoolOrder(size, 0, 0).places(size, 1000), PoolOrder(size, 1, 0).places(0, 1000)]
    others.append(PoolOrder(size, 0, 1).places(0, 1000))
    for other in others:
        assert np.mean(first[:1000] == other) < 0.01


def test_rows_read_together_lie_in_few_blocks() -> None:
    """A window's rows are those of 256 whole blocks, which is what makes reading them cheap."""
    size = 10 * WINDOW * BLOCK
    window = PoolOrder(size, 0, 0).places(0, WINDOW * BLOCK)
    assert len(np.unique(window // BLOCK)) == WINDOW


def test_a_pool_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="pool 3 has no row"):
        PoolOrder(0, 0, 3)
