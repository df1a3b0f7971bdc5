"""At which steps a stage saves, measures its held-out loss and draws sample pictures (no torch here).

Belongs here: when. Not here: doing it (``stages``), and how a step is spread (``layout``).
"""

from __future__ import annotations

from collections.abc import Iterator

from got_core.train.config import StageConfig


def next_checkpoint(step: int, config: StageConfig) -> int:
    """The step of the first checkpoint after a step."""
    return min(config.steps, (step // config.checkpoint_every + 1) * config.checkpoint_every)


def next_stop(step: int, config: StageConfig) -> int:
    """The step of what comes first after a step: a checkpoint, or the first sample pictures."""
    checkpoint = next_checkpoint(step, config)
    return config.first_samples if step < config.first_samples < checkpoint else checkpoint


def is_checkpoint_step(step: int, config: StageConfig) -> bool:
    """Whether there is a checkpoint at a step."""
    return step > 0 and (step >= config.steps or step % config.checkpoint_every == 0)


def sample_steps(config: StageConfig) -> list[int]:
    """The steps of all sample pictures before those of the finished model."""
    steps = {config.first_samples, *checkpoint_steps(config)}
    return sorted(step for step in steps if is_sample_step(step, config))


def checkpoint_steps(config: StageConfig) -> Iterator[int]:
    """The steps of all checkpoints of an undisturbed stage, the last step among them."""
    step = 0
    while step < config.steps:
        step = next_checkpoint(step, config)
        yield step


def is_held_out_step(step: int, config: StageConfig) -> bool:
    """Whether the held-out loss is measured at a checkpoint's step; before the first step it always is."""
    return _is_due(step, config.held_out_every or config.checkpoint_every, config)


def is_sample_step(step: int, config: StageConfig) -> bool:
    """Samples are drawn after ``first_samples`` steps, and at the first checkpoint at or after each multiple
    of ``sample_every``; those of the finished model are drawn in any case."""
    if not 0 < step < config.steps:
        return False
    if step == config.first_samples:
        return True
    every = config.sample_every
    return every > 0 and is_checkpoint_step(step, config) and _is_due(step, every, config)


def _is_due(step: int, every: int, config: StageConfig) -> bool:
    """Whether a checkpoint is the first one at or after a multiple of ``every``, or the last one."""
    return step >= config.steps or (step >= every and step % every < config.checkpoint_every)
