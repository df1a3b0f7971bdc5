"""At which steps a stage saves, measures its held-out loss and draws sample pictures (no torch here).

Belongs here: when. Not here: doing it (``stages``), and how a step is spread (``layout``).
"""

from __future__ import annotations

from collections.abc import Iterator

from got_core.train.config import StageConfig


def next_checkpoint(step: int, config: StageConfig) -> int:
    """The step of the first checkpoint after a step."""
    return min(config.steps, (step // config.checkpoint_every + 1) * config.checkpoint_every)


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
    """Samples are drawn at the first checkpoint at or after each multiple of ``sample_every``; those of the
    finished model are drawn in any case."""
    return 0 < step < config.steps and config.sample_every > 0 and _is_due(step, config.sample_every, config)


def _is_due(step: int, every: int, config: StageConfig) -> bool:
    """Whether a checkpoint is the first one at or after a multiple of ``every``, or the last one."""
    return step >= config.steps or (step >= every and step % every < config.checkpoint_every)
