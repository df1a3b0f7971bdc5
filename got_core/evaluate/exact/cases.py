"""A case of an exact benchmark, and edits of objects that are not there.

Belongs here: the case, its true results and what they change. Not here: cases of `edits/scenes`
(`evaluate.edit_cases`), instructions that need reasoning (`reasoning`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.edit_cases import EditCase
from got_core.evaluate.edit_rules import Expected, Look, expected_objects
from got_core.evaluate.exact.excess import difference
from got_core.planning.geneval import XYXY
from got_core.scenes.edits import find
from got_core.scenes.heldout import is_held_out
from got_core.scenes.render import render
from got_core.scenes.sample import sample_edit
from got_core.scenes.world import Scene, World

ABSENT = "absent"
"""Task of edits of objects that the source does not show."""

_OF_OBJECTS = ("remove", "recolour", "replace", "move")
_TRIES = 200


@dataclass(frozen=True)
class ExactCase(EditCase):
    """One scene and what is to be done to it; `kind` is its task."""

    absent: str | None = None
    """The object that is to be edited and that the source does not show."""

    shown: tuple[Scene, Scene] | None = None
    """Source and target as they were with it."""

    @cached_property
    def before(self) -> Image.Image:
        """The picture to edit."""
        return render(self.source)

    @cached_property
    def expected(self) -> list[Expected]:
        """The objects after the edit; of an edit of an absent object, those of the source."""
        return expected_objects(self.source, () if self.absent else self.ops)

    @cached_property
    def true_change(self) -> float:
        """Sum of the levels by which the true edit changes the picture; of an absent object's, if it were
        there."""
        one, other = self.shown or (self.source, self.target)
        return float(difference(render(one), render(other)).sum())

    def true_result(self, placed: Mapping[Look, XYXY]) -> Image.Image:
        """The picture of the target, with objects that words place (by look) where these boxes are."""
        target = self.target
        for (color, shape), box in placed.items():
            number = find(target, color, shape)
            x1, y1, x2, y2 = (round(value) for value in box)
            moved = replace(target.objects[number], x1=x1, y1=y1, x2=x2, y2=y2)
            target = replace(target, objects=(*target.objects[:number], moved, *target.objects[number + 1 :]))
        return render(target)


def of_edit_case(case: EditCase, task: str | None = None) -> ExactCase:
    """A case of `edits/scenes`, of the same task unless another is given."""
    return ExactCase(task or case.kind, case.source, case.target, case.ops, case.instruction, case.seed)


def absent_cases(world: World, config: EvaluateConfig) -> list[ExactCase]:
    """One edit of an object that is not there for every six of `edit_images`, at least one; the kinds in
    turn. Raises ValueError for a world whose scenes have one object only."""
    return [_absent(world, config, index) for index in range(max(1, config.edit_images // 6))]


def _absent(world: World, config: EvaluateConfig, index: int) -> ExactCase:
    rng = np.random.default_rng([config.seed, 0xAB5E, index])
    for _ in range(_TRIES):
        source, target, op, text = sample_edit(world, rng, _OF_OBJECTS[index % len(_OF_OBJECTS)])
        number = find(source, op.color, op.shape)
        rest = source.objects[:number] + source.objects[number + 1 :]
        if rest and not is_held_out(rest, world):
            left = replace(source, objects=rest)
            return ExactCase(
                ABSENT,
                left,
                left,
                op.intent.steps,
                text,
                int(rng.integers(2**31 - 1)),
                absent=op.phrase,
                shown=(source, target),
            )
    raise ValueError("the world shows one object at a time, so no edit can be of one that is not there")
