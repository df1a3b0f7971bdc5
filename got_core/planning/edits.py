"""What an edit's instruction asks of its plan, and repairing a plan that falls short of it.

    chain = pipe.plan(instruction, image)[0]
    for fault in check_edit_plan(chain, instruction):
        print(fault)
    chain = repair_edit_plan(chain, instruction)

Belongs here: what follows from instruction and chain alone. Not here: whether boxes are where the source
picture shows their objects (`evaluate.edit_rules` knows the scene), or plans of text to image (`check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from got_core.chain.boxes import LIMIT, Box
from got_core.chain.edits import EditStep, move_box, read_edit_chain
from got_core.chain.grammar import Chain, ChainError, Dropped, parse
from got_core.planning.check import SIDES, Fault, apart, corners, malformed, margin_left
from got_core.planning.geneval import DEFAULT_RULES
from got_core.scenes.edits import EditOp, parse_instruction
from got_core.scenes.world import PLACES


def edit_steps(chain: Chain) -> tuple[EditStep, ...]:
    """The steps of an edit chain; () if it cannot be read as one."""
    try:
        return read_edit_chain(chain).steps
    except ChainError:
        return ()


def check_edit_plan(
    chain: Chain,
    instruction: str,
    *,
    size: tuple[float, float] = (LIMIT, LIMIT),
    slack: int = 0,
    dropped: Sequence[Dropped] = (),
) -> list[Fault]:
    """Faults of an edit chain: `malformed`, `count` (of steps), `repeat`, `place`, `position`, `overlap`.

    `repeat`: an object of an earlier step is somewhere else than that step left it. `place` and `position`: a
    new or moved object is not in the third of the picture that is named, or does not stand to another one as
    required; the latter is checked where an earlier step is about that one. `overlap`: it lies on an object
    of an earlier step. `size`: width and height of the picture, whose aspect matters to relations; `slack`:
    units by which limits are cleared; `dropped`: as in `check_plan`. Raises ValueError, naming what is
    understood, for an instruction that is no edit of scenes; one that needs reasoning has to be put in plain
    words first (`scenes.reasoning.resolve`).
    """
    return [*malformed(dropped), *_Walk(chain, size, slack, repairs=False).take(instruction).faults]


def repair_edit_plan(
    chain: Chain, instruction: str, *, size: tuple[float, float] = (LIMIT, LIMIT), slack: int = 0
) -> Chain:
    """The chain without the faults that moving its boxes can repair, step by step in the chain's order.

    A repeated box is where it was; a new place is the nearest (sum of moves across and down) that suits the
    words and touches nothing that the chain has placed. Words, sizes and mask colours stay. A chain without
    such faults comes back as it is, and what no move can repair stays. A move is the smallest for its own
    step, given what the steps before have placed. Arguments and errors as in `check_edit_plan`.
    """
    return _Walk(chain, size, slack, repairs=True).take(instruction).chain


@dataclass
class _Walk:
    """The steps of a chain in turn, and where each object is by then."""

    chain: Chain
    size: tuple[float, float]
    slack: int
    repairs: bool
    faults: list[Fault] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    """Of the objects of the steps so far, colour and shape to the number of the box that they are in."""

    def take(self, instruction: str) -> _Walk:
        ops, steps = _asked(instruction), edit_steps(self.chain)
        if len(steps) != len(ops):
            message = f"the plan has {len(steps)} steps where {len(ops)} are asked for"
            self.faults.append(Fault("count", (), message))
            return self
        for op, step in zip(ops, steps, strict=True):
            self._step(op, range(step.first, step.first + _count_boxes(step)))
        return self

    def _step(self, op: EditOp, boxes: Sequence[int]) -> None:
        known = self.places.pop(op.phrase, None) if op.kind != "add" else None
        if known is not None and self._box(boxes[0]) != self._box(known):
            message = f"box {boxes[0]} is not box {known}, where the {op.phrase} was left"
            self._add_fault(Fault("repeat", (boxes[0], known), message), boxes[0], self._box(known))
        if op.kind in ("add", "move"):
            self._place(op, boxes)
        if op.kind != "remove":
            phrase = f"{op.new_color or op.color} {op.new_shape or op.shape}"
            self.places[phrase] = boxes[-1] if op.kind == "move" else boxes[0]

    def _place(self, op: EditOp, boxes: Sequence[int]) -> None:
        if op.kind == "move" and len(boxes) == 1:
            self.faults.append(Fault("place", (), f"the plan does not say where the {op.phrase} goes"))
            return
        number = boxes[-1] if op.kind == "move" else boxes[0]
        box = self._box(number)
        taken = [k for k in self.places.values() if not apart(corners(box), corners(self._box(k)), 0)]
        if not self._suits(op, corners(box)):
            where = f"{op.anchor[0]} the {' '.join(op.anchor[1:])}" if op.anchor else f"at the {op.place}"
            fault = Fault("position" if op.anchor else "place", (number,), f"box {number} is not {where}")
        elif taken:
            fault = Fault("overlap", (number, taken[0]), f"box {number} lies on box {taken[0]}")
        else:
            return
        self._add_fault(fault, number, self._nearest(op, box))

    def _suits(self, op: EditOp, box: Sequence[Any]) -> Any:
        """Whether a box is where the operation's words put it, if that is known. Corners may be arrays."""
        if op.place:
            row, column = divmod(PLACES.index(op.place), 3)
            across = (box[0] + box[2]) / 2 - LIMIT * column / 3
            down = (box[1] + box[3]) / 2 - LIMIT * row / 3
            low, high = self.slack, LIMIT / 3 - self.slack
            return (low <= across) & (across < high) & (low <= down) & (down < high)
        anchor = self.places.get(" ".join(op.anchor[1:])) if op.anchor else None
        if not op.anchor or anchor is None:
            return True
        relation, other = op.anchor[0], self._box(anchor).to_pixels(*self.size)
        pixels = [value / LIMIT * side for value, side in zip(box, self.size * 2, strict=True)]
        margin = margin_left(pixels, other, relation, DEFAULT_RULES.position_threshold)
        return margin > self.slack * self.size[SIDES[relation][0]] / LIMIT

    def _nearest(self, op: EditOp, box: Box) -> Box:
        """The nearest box of that size that suits the words and is free; the box itself if there is none."""
        dx = np.arange(-box.x1, LIMIT - box.x2)[None, :]
        dy = np.arange(-box.y1, LIMIT - box.y2)[:, None]
        x1, y1, x2, y2 = box.x1 + dx, box.y1 + dy, box.x2 + dx, box.y2 + dy
        cost = abs(dx) + abs(dy)
        fits = np.broadcast_to(self._suits(op, (x1, y1, x2, y2)), cost.shape).copy()
        for other in map(self._box, self.places.values()):
            fits &= (x2 <= other.x1) | (other.x2 <= x1) | (y2 <= other.y1) | (other.y2 <= y1)
        if not fits.any():
            return box
        y, x = divmod(int(np.where(fits, cost, cost.max() + 1).argmin()), cost.shape[1])
        return Box(x, y, x + box.width, y + box.height)

    def _box(self, number: int) -> Box:
        return self.chain.boxes[number].box

    def _add_fault(self, fault: Fault, number: int, box: Box) -> None:
        self.faults.append(fault)
        if self.repairs and box != self._box(number):
            self.chain = move_box(self.chain, number, box)


def _asked(instruction: str) -> tuple[EditOp, ...]:
    try:
        return parse_instruction(instruction).steps
    except ValueError as error:
        raise ValueError(
            f"{error}. Words that point at objects ('the largest shape') need the picture: give the wording "
            "(got_core.scenes.edits.instruction) of what got_core.scenes.reasoning.resolve makes of them"
        ) from None


def _count_boxes(step: EditStep) -> int:
    return len(step.boxes) + len(parse(step.change, "data").boxes)
