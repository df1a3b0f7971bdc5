"""Cases of `reason_edit/scenes`: edits whose instructions need reasoning, in Reason-Edit's classes.

Belongs here: which cases there are. Not here: the instructions and their scenes (`scenes.reasoning`), or the
suite (`reason_edit`). Scenes come from seeds that no corpus uses and show nothing that is held out.
"""

from __future__ import annotations

import numpy as np

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.exact.cases import ExactCase
from got_core.scenes.reasoning import ASKED, draw_reasoning
from got_core.scenes.world import World


def reasoning_cases(world: World, config: EvaluateConfig) -> list[ExactCase]:
    """`reason_images` cases, the tasks in turn. Raises ValueError where the world cannot show one."""
    return [_case(world, config, index) for index in range(config.reason_images)]


def _case(world: World, config: EvaluateConfig, index: int) -> ExactCase:
    rng = np.random.default_rng([config.seed, 0x4EA5, index])
    turn, number = divmod(index, len(ASKED))
    task = list(ASKED)[number]
    source, target, ops, instruction = draw_reasoning(world, rng, task, turn)
    return ExactCase(task, source, target, ops, instruction, int(rng.integers(2**31 - 1)))
