"""Which samples of a step go where: the same ones on any number of workers, each exactly once."""

from __future__ import annotations

import pytest

from got_core.recipes import embedded, paper
from got_core.train.layout import StepLayout, learns


def layout(workers: int, **changes: int) -> StepLayout:
    numbers = {"samples": 24, "draws": 2, "largest_batch": 4} | changes
    return StepLayout(workers=workers, **numbers)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6, 12])
def test_every_sample_of_a_step_is_taken_once_by_its_number(workers: int) -> None:
    one = layout(workers)
    passes = [one.passes(5, rank) for rank in range(workers)]
    taken = [(part.draw, index) for rank in passes for part in rank for index in part.indices]
    assert sorted(taken) == [(index // 12, index) for index in range(5 * 24, 6 * 24)]
    assert {len(rank) for rank in passes} == {one.accumulation}
    assert {len(part.indices) for rank in passes for part in rank} == {one.batch_size}
    assert one.batch_size <= 4
    # Rank by rank, the same draw at the same time.
    assert len({tuple(part.draw for part in rank) for rank in passes}) == 1


@pytest.mark.parametrize(
    ("workers", "largest", "batch", "passes"),
    [(1, 4, 4, 6), (1, 5, 4, 6), (1, 12, 12, 2), (1, 100, 12, 2), (2, 4, 3, 4), (3, 4, 4, 2), (12, 4, 1, 2)],
)
def test_as_few_passes_as_the_largest_batch_allows(
    workers: int, largest: int, batch: int, passes: int
) -> None:
    one = layout(workers, largest_batch=largest)
    assert (one.batch_size, one.accumulation) == (batch, passes)


def test_recipes_are_spread_as_they_were_made() -> None:
    for stage in paper().stages:
        one = stage.config.layout()
        assert (one.workers, one.batch_size, one.accumulation) == (16, 2, 4)
        assert [stage.config.layout(n).accumulation for n in (8, 32)] == [8, 4]
    for stage in embedded().stages:
        one = stage.config.layout()
        assert (one.workers, one.batch_size, one.accumulation) == (2, 18, 1)
        assert stage.config.layout(1).passes(3, 0)[1].indices == one.passes(3, 1)[0].indices


def test_what_does_not_divide_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="global_batch 24 is not a multiple of draws_per_step 5"):
        layout(1, draws=5)
    message = r"5 workers cannot share the 12 .* \(global_batch 24 / draws_per_step 2\).* 1, 2, 3, 4, 6, 12 w"
    with pytest.raises(ValueError, match=message):
        layout(5)
    with pytest.raises(ValueError, match="24 workers cannot share the 12 samples"):
        layout(24)


@pytest.mark.parametrize(("share", "of_twelve"), [(1.0, 12), (0.5, 6), (1 / 3, 4), (0.4, 5), (0.05, 1)])
def test_a_share_of_a_draw_learns_evenly_from_its_first_sample_on(share: float, of_twelve: int) -> None:
    chosen = [learns(position, share) for position in range(12)]
    assert chosen[0] and sum(chosen) == of_twelve
    for width in (2, 3, 6):
        counts = [sum(chosen[k : k + width]) for k in range(0, 12, width)]
        assert max(counts) - min(counts) <= 1
    assert sum(learns(position, 1 / 3) for position in range(3 * 997)) == 997
