"""What a prompt asks of a plan, and where a plan falls short of it.

    chain = pipe.plan(prompt)[0]
    needs = Requirements.of_prompt(prompt)
    for fault in check_plan(chain, needs):
        print(fault)

Belongs here: requirements and faults of text-to-image chains; no model, no picture. Not here: repairing
them (`repair`), the rules for count, colour and relation (`geneval`), or edit chains (`edits`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from got_core.chain.boxes import LIMIT, Box
from got_core.chain.grammar import Chain, Dropped
from got_core.planning.geneval import (
    COLORS,
    DEFAULT_RULES,
    Detection,
    GenEvalRules,
    evaluate_image,
    keep_detections,
)
from got_core.planning.objects import planned_objects
from got_core.scenes.prompts import parse_prompt
from got_core.scenes.world import World

MOVABLE = ("position", "overlap", "frame", "place", "repeat")
"""Kinds of fault that moving boxes can repair."""

Related = tuple[int, int, str]
"""Box, other box, and the relation that the first has to have to the second."""

SIDES = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
"""Axis of a relation, and the sign of the offset that it asks for."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a plan."""

    kind: str
    """`malformed` (what was written), `count`, `color`, `position` (the prompt's), `overlap`, `frame`, `size`
    (of the layout itself); `place` and `repeat` (see `edits`)."""

    boxes: tuple[int, ...]
    """Numbers of the chain's boxes concerned, from 0; empty where a box is missing or of the wrong kind."""

    message: str

    @property
    def movable(self) -> bool:
        """Whether moving its boxes can repair it; not what is missing or has the wrong colour."""
        return self.kind in MOVABLE and bool(self.boxes)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a plan has to satisfy. Lengths are in chain units (thousandths of the picture's sides)."""

    metadata: Mapping[str, Any]
    """A GenEval metadata row: `tag`, `include`, `exclude`?."""

    classes: tuple[str, ...]
    """Class names to look for in the phrases. Boxes whose phrase names none of them are left alone."""

    colors: tuple[str, ...] = COLORS
    """Colour names to look for."""

    size: tuple[float, float] = (LIMIT, LIMIT)
    """Width and height of the picture. Relations are measured in pixels, so its aspect matters."""

    gap: int | None = 0
    """Units that stay free between any two objects (0: they may touch); None: they may overlap."""

    slack: int = 0
    """Units by which a relation must clear GenEval's limit, and boxes the frame. A drawn object is never
    exactly where it was planned, so a plan on the limit is drawn wrong half of the time."""

    min_side: int = 1
    """Shortest side that is still an object."""

    rules: GenEvalRules = DEFAULT_RULES
    """GenEval's numbers; `position_threshold` is the relation's margin."""

    @classmethod
    def of_prompt(cls, prompt: str, **limits: Any) -> Requirements:
        """What one of GenEval's six prompt styles asks for; `limits` sets the other fields.

        Raises ValueError, naming the styles, for another prompt.
        """
        row = parse_prompt(prompt)
        classes = {clause["class"] for clause in (*row["include"], *row.get("exclude", ()))}
        return cls(metadata=row, **{"classes": tuple(sorted(classes)), **limits})

    @classmethod
    def in_world(cls, metadata: Mapping[str, Any], world: World, slack_pixels: int = 0) -> Requirements:
        """What a scene prompt's row asks for in this world: no overlap, no side below half the smallest.

        `slack_pixels`: `slack` and `gap` in pixels of the world's picture.
        """
        slack = math.ceil(LIMIT * slack_pixels / world.size)
        return cls(
            metadata=metadata,
            classes=world.shapes,
            colors=world.colors,
            size=(world.size, world.size),
            gap=slack,
            slack=slack,
            min_side=LIMIT * world.min_object // (2 * world.size),
        )

    def slack_along(self, relation: str) -> float:
        """The slack in pixels, on a relation's axis."""
        return self.slack * self.size[SIDES[relation][0]] / LIMIT

    @property
    def frame(self) -> Box:
        """Where boxes may lie."""
        return Box(self.slack, self.slack, LIMIT - 1 - self.slack, LIMIT - 1 - self.slack)


def check_plan(chain: Chain, requirements: Requirements, dropped: Sequence[Dropped] = ()) -> list[Fault]:
    """Everything that is wrong with a plan, the prompt's faults first; an empty list if nothing is.

    `dropped`: what the tolerant reader left out of the model's text; each is a fault `malformed`. A box that
    was written out of range or with swapped corners is one of these: it never gets into a chain. Raises
    MetadataError for metadata that GenEval's rules cannot judge.
    """
    boxes = planned_boxes(chain, requirements)
    return [
        *malformed(dropped),
        *_prompt_faults(_objects(chain, requirements), requirements),
        *_overlap_faults(boxes, requirements.gap),
        *_frame_faults(boxes, requirements.frame),
        *_size_faults(boxes, requirements.min_side),
    ]


def malformed(dropped: Sequence[Dropped]) -> list[Fault]:
    """A fault for each thing that the model wrote and no chain can hold."""
    return [
        Fault("malformed", (), f"{one.text[:40]!r} was written at character {one.position}: {one.reason}")
        for one in dropped
    ]


def planned_boxes(chain: Chain, requirements: Requirements) -> dict[int, Box]:
    """Number and box of each object of the plan."""
    placed = chain.boxes
    return {index: placed[index].box for index in _objects(chain, requirements)}


def required_relations(chain: Chain, requirements: Requirements) -> list[Related]:
    """Each pair that the prompt relates; a clause whose count or colour fails gives none."""
    related = _related(_objects(chain, requirements), requirements)
    return [pair for pairs in related.values() for pair in pairs]


def margin_left(a: Sequence[Any], b: Sequence[Any], relation: str, threshold: float) -> Any:
    """By how many pixels box a clears the limit of being `relation` box b; above 0 where the relation holds.

    GenEval's rule is |offset| - threshold * sizes > |offset vector| / 2 on the relation's axis, a convex
    condition on the offset of the centres. Corners may be arrays: the result is then one, too.
    """
    axis, sign = SIDES[relation]
    offset = [(a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1)]
    sizes = a[axis + 2] - a[axis] + b[axis + 2] - b[axis]
    return sign * offset[axis] - threshold * sizes - np.hypot(*offset) / 2


# ---------------------------------------------------------------- the prompt's faults


def _objects(chain: Chain, requirements: Requirements) -> dict[int, Detection]:
    return planned_objects(chain, requirements.classes, *requirements.size, colors=requirements.colors)


def _with_area(objects: Mapping[int, Detection]) -> dict[int, Detection]:
    return {k: o for k, o in objects.items() if o.box[2] > o.box[0] and o.box[3] > o.box[1]}


def _prompt_faults(objects: Mapping[int, Detection], requirements: Requirements) -> list[Fault]:
    verdict = evaluate_image(_with_area(objects).values(), requirements.metadata, requirements.rules)
    related = _related(objects, requirements)
    faults = []
    for number, clause in enumerate(verdict.clauses):
        if clause.kind == "include" and related.get(number):
            faults += _relation_faults(related[number], objects, requirements)
        elif clause.failed is not None:
            faults.append(Fault(clause.failed, (), clause.reason or ""))
    return faults


def _relation_faults(
    pairs: Sequence[Related], objects: Mapping[int, Detection], requirements: Requirements
) -> list[Fault]:
    faults = []
    for a, b, relation in pairs:
        threshold, slack = requirements.rules.position_threshold, requirements.slack_along(relation)
        if margin_left(objects[a].box, objects[b].box, relation, threshold) <= slack:
            faults.append(Fault("position", (a, b), f"box {a} is not clearly {relation} box {b}"))
    return faults


def _related(objects: Mapping[int, Detection], requirements: Requirements) -> dict[int, list[Related]]:
    """By include clause, the pairs that the rules relate: where count and colour hold, on both sides."""
    planned, metadata = _with_area(objects), requirements.metadata
    number = {id(one): index for index, one in planned.items()}
    verdict = evaluate_image(planned.values(), metadata, requirements.rules)
    kept = keep_detections(planned.values(), metadata["tag"], requirements.rules)
    matched: list[list[int]] = []
    for clause, judged in zip(metadata["include"], verdict.clauses, strict=False):
        chosen = kept.get(clause["class"], [])[: clause["count"]]
        matched.append([number[id(one)] for one in chosen if judged.failed in (None, "position")])
    return {
        index: [(a, b, clause["position"][0]) for a in matched[index] for b in matched[clause["position"][1]]]
        for index, clause in enumerate(metadata["include"])
        if "position" in clause
    }


# ---------------------------------------------------------------- the layout's faults


def _overlap_faults(boxes: Mapping[int, Box], gap: int | None) -> list[Fault]:
    if gap is None:
        return []
    return [
        Fault("overlap", (i, j), f"boxes {i} and {j} have no {gap} units between them")
        for i, j in combinations(boxes, 2)
        if not apart(corners(boxes[i]), corners(boxes[j]), gap)
    ]


def apart(a: Sequence[int], b: Sequence[int], gap: int) -> bool:
    """Whether at least `gap` units lie between two boxes (x1, y1, x2, y2), across or down."""
    return any(first[axis + 2] + gap <= second[axis] for axis in (0, 1) for first, second in ((a, b), (b, a)))


def _frame_faults(boxes: Mapping[int, Box], frame: Box) -> list[Fault]:
    return [
        Fault("frame", (index,), f"box {index} leaves the frame {frame}")
        for index, box in boxes.items()
        if box.x1 < frame.x1 or box.y1 < frame.y1 or box.x2 > frame.x2 or box.y2 > frame.y2
    ]


def _size_faults(boxes: Mapping[int, Box], min_side: int) -> list[Fault]:
    return [
        Fault("size", (index,), f"box {index} is only {box.width} x {box.height} units")
        for index, box in boxes.items()
        if min(box.width, box.height) < min_side
    ]


def corners(box: Box) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 in chain units."""
    return box.x1, box.y1, box.x2, box.y2
