"""How much of a scene a picture shows: what stands for CLIP's likeness where the scene is known.

Belongs here: agreement of found objects with those of a scene, and the share of an asked change that it
comes to. Not here: pixels, or any benchmark.

The rule. An object found and one of the scene agree in thirds: shape, colour, and place, which is their IoU
over `ExactRules.keep_iou`, at most 1; where only words say the place, it is 1 where they hold and the object
has moved, else 0. Objects are paired so that the sum is largest; the agreement is twice that sum over the
number of objects found and in the scene, so what is missing and what is too much both count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from got_core.evaluate.detector import true_detections
from got_core.evaluate.edit_rules import Expected, Look, matches_words
from got_core.evaluate.exact.asked import ExactRules, confident
from got_core.planning.geneval import XYXY, Detection
from got_core.planning.objects import iou
from got_core.scenes.world import Scene


@dataclass(frozen=True)
class Wanted:
    """An object of a scene."""

    look: Look
    place: Callable[[XYXY], float]
    """How well a box suits, 0 to 1."""


def of_scene(scene: Scene, rules: ExactRules) -> list[Wanted]:
    """The objects of a scene, each in its own place."""
    return [Wanted((str(d.color), d.cls), _at(d.box, rules)) for d in true_detections(scene)]


def of_edit(
    expected: Sequence[Expected], found: Sequence[Detection], size: int, rules: ExactRules
) -> list[Wanted]:
    """The objects after an edit; words refer to objects as the source or else the picture shows them."""
    there = [one for one in expected if not one.gone]
    return [Wanted(one.look, _place_of(one, expected, found, size, rules)) for one in there]


def agreement(found: Sequence[Detection], wanted: Sequence[Wanted], rules: ExactRules) -> float:
    """In 0..1; 1 where both are empty."""
    found = confident(found, rules)
    if not found and not wanted:
        return 1.0
    alike = np.zeros((len(wanted), max(len(found), 1)))
    for row, one in enumerate(wanted):
        for column, d in enumerate(found):
            alike[row, column] = ((d.color == one.look[0]) + (d.cls == one.look[1]) + one.place(d.box)) / 3
    rows, columns = linear_sum_assignment(-alike)
    return float(2 * alike[rows, columns].sum() / (len(wanted) + len(found)))


def made_of(before: float, after: float) -> float:
    """The share of an asked change that was made, from the target's agreement with source and picture.

    0 for a copy, 1 for the target, below 0 (at least -1) for a picture that is farther from the target than
    the source is. `before` is below 1 for every edit that changes something.
    """
    return max(-1.0, (after - before) / (1 - before))


def _at(box: XYXY, rules: ExactRules) -> Callable[[XYXY], float]:
    return lambda other: min(iou(other, box) / rules.keep_iou, 1.0)


def _place_of(
    one: Expected, expected: Sequence[Expected], found: Sequence[Detection], size: int, rules: ExactRules
) -> Callable[[XYXY], float]:
    if one.box is not None:
        return _at(one.box, rules)
    assert one.op is not None
    op, anchor = one.op, one.anchor_box
    if anchor is None and one.anchor is not None:
        look = expected[one.anchor].look
        anchor = next((d.box for d in confident(found, rules) if (d.color, d.cls) == look), None)

    def placed(box: XYXY) -> float:
        moved = one.old is None or iou(box, one.old) < rules.keep_iou
        return float(matches_words(box, op, anchor, size) and moved)

    return placed
