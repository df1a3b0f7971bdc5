"""Plans read as objects, and how well a picture keeps to them.

Belongs here: reading a chain's boxes as detections, and their overlap with found objects. Not here: GenEval's
rules (`geneval`), or a plan's faults (`check`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from got_core.chain.grammar import Chain
from got_core.planning.geneval import COLORS, XYXY, Detection

_WORDS = re.compile(r"[a-z]+")


def plan_detections(
    chain: Chain, classes: Sequence[str], width: float, height: float, colors: Sequence[str] = COLORS
) -> list[Detection]:
    """The objects that a chain plans (see `planned_objects`); a box without an area plans nothing."""
    planned = planned_objects(chain, classes, width, height, colors).values()
    return [one for one in planned if one.box[2] > one.box[0] and one.box[3] > one.box[1]]


def planned_objects(
    chain: Chain, classes: Sequence[str], width: float, height: float, colors: Sequence[str] = COLORS
) -> dict[int, Detection]:
    """Number of the box in the chain, and the object that it plans, with score 1.

    Boxes are in pixels of a `width` x `height` picture. Class and colour come from the phrase before the box:
    its last class name (plurals count) and the last colour name before that. A box whose phrase names no
    class is left out.
    """
    planned = {}
    for index, placed in enumerate(chain.boxes):
        cls, color = read_phrase(placed.phrase, classes, colors)
        if cls is not None:
            planned[index] = Detection(cls, 1.0, placed.box.to_pixels(width, height), color)
    return planned


def read_phrase(
    phrase: str, classes: Sequence[str], colors: Sequence[str] = COLORS
) -> tuple[str | None, str | None]:
    """(class, colour) that a noun phrase names; None for what it does not name."""
    words = " ".join(_WORDS.findall(phrase.lower()))
    # The last to end, and of those the longest: "hot dog" and not "dog".
    found = [
        (match.end("name"), -match.start("name"), cls)
        for cls in classes
        for match in re.finditer(rf"\b(?P<name>{re.escape(cls.lower())})(?:s|es)?\b", words)
    ]
    if not found:
        return None, None
    _, start, cls = max(found)
    before = [word for word in words[:-start].split() if word in colors]
    return cls, before[-1] if before else None


def iou(a: XYXY, b: XYXY) -> float:
    """Intersection over union of two boxes with continuous coordinates."""
    across = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    down = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - across * down
    return across * down / union if union > 0 else 0.0


def plan_followed(
    planned: Sequence[Detection], found: Sequence[Detection], *, place_only: bool = False
) -> float | None:
    """Mean IoU of planned boxes with found ones, best one-to-one match.

    Only objects of the same class and colour match (a planned object without a colour matches any), unless
    `place_only`: then any two do. A planned object that was not found counts 0. None without a plan.
    """
    if not planned:
        return None
    overlap = np.zeros((len(planned), max(len(found), 1)))
    for row, plan in enumerate(planned):
        for column, one in enumerate(found):
            if place_only or (plan.cls == one.cls and plan.color in (None, one.color)):
                overlap[row, column] = iou(plan.box, one.box)
    rows, columns = linear_sum_assignment(-overlap)
    return float(overlap[rows, columns].sum() / len(planned))
