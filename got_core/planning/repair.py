"""Repairing a plan: the smallest move of its boxes that satisfies what is required.

    chain = repair_plan(pipe.plan(prompt)[0], Requirements.of_prompt(prompt))
    image = pipe.draw(chain, prompt)[0]

Belongs here: the optimisation. Not here: what is required (`check`). Sizes, words and mask colours stay;
nothing is added, removed or renamed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from got_core.chain.boxes import LIMIT, Box
from got_core.chain.edits import move_box
from got_core.chain.grammar import Chain
from got_core.planning.check import (
    SIDES,
    Related,
    Requirements,
    apart,
    check_plan,
    margin_left,
    planned_boxes,
    required_relations,
)

CLEARANCE = 1e-3
"""Pixels by which a repaired relation clears its (strict) limit: what GenEval's rule takes for zero."""

_CUT = CLEARANCE + 1e-5  # above the solver's own tolerance, so that a cut point stays cut off
_FIRST_CUTS = tuple(math.radians(degrees) for degrees in range(-60, 61, 20))
_SECONDS = 20.0
"""A plan of many boxes on one another may take the solver hours; it is then left as it is."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Boxes with whole-number corners and what their places have to satisfy."""

    boxes: np.ndarray
    """int (N, 4): x1, y1, x2, y2."""

    frame: tuple[int, int, int, int]
    """Where boxes may lie."""

    gap: int | None = 0
    """Units between any two boxes; None: they may overlap."""

    relations: tuple[Related, ...] = ()
    """Pairs (row, other row, relation)."""

    threshold: float = 0.1
    """GenEval's share of the sizes."""

    slack: float = 0.0
    """Units by which a relation clears its limit besides."""

    scale: tuple[float, float] = (1.0, 1.0)
    """Pixels in a unit, across and down."""


def repair_plan(chain: Chain, requirements: Requirements) -> Chain:
    """The chain with its boxes moved by as little as possible (sum of absolute moves, in chain units).

    Repairs relation, overlap and frame; a chain without such faults comes back as it is, and so does one that
    no move can repair, or none that is proved to be the smallest within 20 seconds. A box that is longer than
    the frame with its slack may lie anywhere in the picture. What is missing or has the wrong colour is not
    invented: ask `check_plan` about the result. The minimum is proved by the solver (integer programming).
    Raises MetadataError as `check_plan` does.
    """
    if not any(fault.movable for fault in check_plan(chain, requirements)):
        return chain
    boxes = planned_boxes(chain, requirements)
    row = {index: k for k, index in enumerate(boxes)}
    frame = requirements.frame
    shifts = smallest_shifts(
        Layout(
            boxes=np.array([[b.x1, b.y1, b.x2, b.y2] for b in boxes.values()]),
            frame=(frame.x1, frame.y1, frame.x2, frame.y2),
            gap=requirements.gap,
            relations=tuple((row[a], row[b], r) for a, b, r in required_relations(chain, requirements)),
            threshold=requirements.rules.position_threshold,
            slack=requirements.slack,
            scale=(requirements.size[0] / LIMIT, requirements.size[1] / LIMIT),
        )
    )
    if shifts is None:
        return chain
    for (index, box), (right, down) in zip(boxes.items(), shifts.tolist(), strict=True):
        moved = Box(box.x1 + right, box.y1 + down, box.x2 + right, box.y2 + down)
        chain = chain if moved == box else move_box(chain, index, moved)
    return chain


def smallest_shifts(layout: Layout) -> np.ndarray | None:
    """The move of each box, int (N, 2), whose sum of absolute values is smallest; None if there is none, or
    none is found in time.

    A mixed-integer program with only those conditions in it that its solutions have run into so far: a
    smaller program's minimum that satisfies all conditions is the minimum of all. Boxes apart are a choice of
    four half-planes. A relation is a convex condition on the offset of two centres, and is added as tangents
    to it.
    """
    program, end = _Program(layout), time.monotonic() + _SECONDS
    while (left := end - time.monotonic()) > 0:
        shifts = program.solve(left)
        if shifts is None or not program.add_violated(shifts):
            return shifts
    return None


class _Program:
    """Columns: moves (dx, dy a box), their absolute values, and four choices for each separated pair."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.moves = 2 * len(layout.boxes)
        self.columns = 2 * self.moves
        self.rows: list[tuple[dict[int, float], float]] = []
        """Sum of coefficient * column >= limit."""
        for column in range(self.moves):
            for sign in (1, -1):
                self.rows.append(({self.moves + column: 1, column: sign}, 0))
        self.separated: set[tuple[int, int]] = set()
        for pair in layout.relations:
            for angle in _FIRST_CUTS:
                self._cut(pair, math.cos(angle), math.sin(angle))

    def solve(self, seconds: float) -> np.ndarray | None:
        matrix = np.zeros((len(self.rows), self.columns))
        for row, (terms, _) in enumerate(self.rows):
            matrix[row, list(terms)] = list(terms.values())
        cost = np.zeros(self.columns)
        cost[self.moves : 2 * self.moves] = 1
        low, high = self._bounds()
        answer = milp(
            cost,
            integrality=np.ones(self.columns),
            bounds=Bounds(low, high),
            constraints=LinearConstraint(matrix, lb=[limit for _, limit in self.rows]),
            options={"mip_rel_gap": 0.0, "time_limit": seconds},
        )
        # Other than 0: there is no answer, or it is not proved.
        return None if answer.status else np.rint(answer.x[: self.moves]).astype(int).reshape(-1, 2)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        boxes, frame = self.layout.boxes, np.array(self.layout.frame)
        low, high = np.zeros(self.columns), np.ones(self.columns)
        low[: self.moves] = (frame[:2] - boxes[:, :2]).ravel()
        high[: self.moves] = (frame[2:] - boxes[:, 2:]).ravel()
        too_long = low[: self.moves] > high[: self.moves]
        low[: self.moves][too_long] = -boxes[:, :2].ravel()[too_long]
        high[: self.moves][too_long] = (LIMIT - 1 - boxes[:, 2:]).ravel()[too_long]
        high[self.moves : 2 * self.moves] = np.inf
        return low, high

    def add_violated(self, shifts: np.ndarray) -> int:
        """Add what these moves violate; how many conditions that were."""
        moved = self.layout.boxes + np.tile(shifts, 2)
        before = len(self.rows)
        for i, j in self._touching(moved):
            self._separate(i, j)
        for pair in self.layout.relations:
            along, across, left = self._offset(pair, moved)
            if left < CLEARANCE:
                length = math.hypot(along, across) or 1.0
                self._cut(pair, along / length, across / length)
        return len(self.rows) - before

    def _touching(self, moved: np.ndarray) -> Iterator[tuple[int, int]]:
        gap = self.layout.gap
        for i, j in combinations(range(len(moved)) if gap is not None else (), 2):
            if (i, j) not in self.separated and not apart(moved[i].tolist(), moved[j].tolist(), gap or 0):
                yield i, j

    def _separate(self, i: int, j: int) -> None:
        """At least one of: i left of j, j left of i, i above j, j above i, by the gap."""
        self.separated.add((i, j))
        choices = list(range(self.columns, self.columns + 4))
        self.columns += 4
        boxes, gap = self.layout.boxes, self.layout.gap or 0
        sides = [(first, second, axis) for axis in (0, 1) for first, second in ((i, j), (j, i))]
        for choice, (first, second, axis) in zip(choices, sides, strict=True):
            need = int(boxes[first, axis + 2]) + gap - int(boxes[second, axis])
            # Not chosen, the condition is one that every box within the picture satisfies.
            reach = float(max(np.ptp(self.layout.frame), LIMIT - 1)) + gap
            terms = {2 * second + axis: 1.0, 2 * first + axis: -1.0, choice: -reach}
            self.rows.append((terms, need - reach))
        self.rows.append((dict.fromkeys(choices, 1.0), 1.0))

    def _offset(self, pair: Related, boxes: np.ndarray) -> tuple[float, float, float]:
        """Pixels from b's centre to a's along the relation and across it, and the margin that is left."""
        a, b, relation = pair
        axis, sign = SIDES[relation]
        scale = np.array(self.layout.scale * 2)
        first, second = (boxes[k] * scale for k in (a, b))
        offset = (first[:2] + first[2:] - second[:2] - second[2:]) / 2
        left = margin_left(tuple(first), tuple(second), relation, self.layout.threshold)
        return sign * offset[axis], offset[1 - axis], left - self.layout.slack * self.layout.scale[axis]

    def _cut(self, pair: Related, cosine: float, sine: float) -> None:
        """The tangent to the relation's condition in a direction: |o| >= cosine * along + sine * across."""
        a, b, relation = pair
        axis, sign = SIDES[relation]
        boxes, scale = self.layout.boxes, self.layout.scale
        along, across, _ = self._offset(pair, boxes)
        sizes = float(boxes[[a, b], axis + 2].sum() - boxes[[a, b], axis].sum()) * scale[axis]
        limit = self.layout.threshold * sizes + self.layout.slack * scale[axis] + _CUT
        per_along, per_across = 1 - cosine / 2, -sine / 2
        terms = {
            2 * a + axis: per_along * sign * scale[axis],
            2 * b + axis: -per_along * sign * scale[axis],
            2 * a + 1 - axis: per_across * scale[1 - axis],
            2 * b + 1 - axis: -per_across * scale[1 - axis],
        }
        self.rows.append((terms, limit - per_along * along - per_across * across))
