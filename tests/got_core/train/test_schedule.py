"""When a stage saves, measures and draws: at checkpoints alone, and at the last one in any case."""

from __future__ import annotations

import pytest

from got_core.train.config import StageConfig
from got_core.train.schedule import (
    checkpoint_steps,
    is_checkpoint_step,
    is_held_out_step,
    is_sample_step,
    next_checkpoint,
    next_stop,
    sample_steps,
)


@pytest.mark.parametrize(("steps", "every"), [(10, 3), (9, 3), (2, 200), (7, 1)])
def test_checkpoints_are_at_multiples_and_at_the_end(steps: int, every: int) -> None:
    config = StageConfig(steps=steps, checkpoint_every=every)
    expected = sorted({*range(every, steps, every), steps})
    assert list(checkpoint_steps(config)) == expected
    # A stage that goes on between two checkpoints comes to the same ones.
    assert [next_checkpoint(step, config) for step in range(steps)] == [
        next(one for one in expected if one > step) for step in range(steps)
    ]


def test_what_is_due_between_checkpoints_is_done_at_the_next() -> None:
    config = StageConfig(steps=100, checkpoint_every=20, held_out_every=30, sample_every=50)
    steps = list(checkpoint_steps(config))
    assert [step for step in steps if is_held_out_step(step, config)] == [40, 60, 100]
    # The finished model's samples are its own.
    assert [step for step in steps if is_sample_step(step, config)] == [60]


def test_without_a_distance_each_checkpoint_is_measured_and_none_drawn() -> None:
    config = StageConfig(steps=50, checkpoint_every=20)
    steps = list(checkpoint_steps(config))
    assert [step for step in steps if is_held_out_step(step, config)] == steps == [20, 40, 50]
    assert not any(is_sample_step(step, config) for step in steps)


@pytest.mark.parametrize(
    ("first", "stops", "drawn"),
    [
        (7, [7, 20, 40, 50], [7, 40]),
        (20, [20, 40, 50], [20, 40]),
        (45, [20, 40, 45, 50], [40, 45]),
        (0, [20, 40, 50], [40]),
        (50, [20, 40, 50], [40]),
        (99, [20, 40, 50], [40]),
    ],
)
def test_first_samples_are_drawn_where_they_are_due_and_save_nothing(
    first: int, stops: list[int], drawn: list[int]
) -> None:
    config = StageConfig(steps=50, checkpoint_every=20, sample_every=30, first_samples=first)
    step, seen = 0, []
    while step < config.steps:
        step = next_stop(step, config)
        seen.append(step)
    assert seen == stops and sample_steps(config) == drawn
    assert [step for step in seen if is_sample_step(step, config)] == drawn
    assert [step for step in seen if is_checkpoint_step(step, config)] == [20, 40, 50]
