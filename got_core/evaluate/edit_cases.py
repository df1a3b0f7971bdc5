"""The cases of `edits/scenes`: scenes that no corpus shows, and what is to be done to them.

Belongs here: choosing scenes, edits and wordings. Not here: sampling them (`got_core.scenes`), or judging
what a model makes of them (`edit_rules`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from got_core.evaluate.config import EvaluateConfig
from got_core.scenes.config import KINDS
from got_core.scenes.corpus import MULTI_TURN
from got_core.scenes.edits import EditOp, wordings
from got_core.scenes.sample import sample_edit, sample_multi_turn
from got_core.scenes.world import Scene, World


@dataclass(frozen=True)
class EditCase:
    """One scene and what is to be done to it."""

    kind: str
    """One of KINDS, or MULTI_TURN."""

    source: Scene
    target: Scene
    """One right result of many."""

    ops: tuple[EditOp, ...]
    instruction: str
    seed: int
    """Of the picture's generator."""


def edit_cases(world: World, config: EvaluateConfig) -> list[EditCase]:
    """`edit_images` cases, the kinds in turn; scenes and wordings from seeds that no corpus uses.

    Scenes show the corpus's combinations (the held-out split is `geneval/scenes`'s), in arrangements of their
    own.
    """
    return [_case(world, config, index) for index in range(config.edit_images)]


def _case(world: World, config: EvaluateConfig, index: int) -> EditCase:
    rng = np.random.default_rng([config.seed, 0xED17, index])
    kinds = KINDS if config.edit_steps == 1 else (*KINDS, MULTI_TURN)
    kind = kinds[index % len(kinds)]
    if kind == MULTI_TURN:
        steps = int(rng.integers(2, config.edit_steps + 1))
        source, target, op, _ = sample_multi_turn(world, rng, steps)
    else:
        source, target, op, _ = sample_edit(world, rng, kind)
    texts = wordings(op)
    text = texts[int(rng.integers(len(texts)))]
    return EditCase(kind, source, target, op.intent.steps, text, int(rng.integers(2**31 - 1)))
