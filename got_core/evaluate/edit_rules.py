"""The rules of `edits/scenes`: whether an edited picture, and the chain behind it, do what was requested.

Belongs here: what a picture has to show after the edits, verdicts on found objects and on edit chains.
Not here: which edits are requested (`edit_cases`), grounding (`grounding`), scores (`edits`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from got_core.chain.boxes import Box
from got_core.chain.edits import EditStep
from got_core.chain.grammar import Chain, Dropped, parse
from got_core.chain.layout import fill_region
from got_core.planning.check import malformed
from got_core.planning.edits import edit_steps
from got_core.planning.geneval import XYXY, Detection
from got_core.planning.objects import iou, read_phrase
from got_core.scenes.edits import EditOp
from got_core.scenes.world import TONES, Scene, World, place_of, relations

_VERBS = {
    "add": re.compile(r"\b(?:add|put|draw|insert|place)"),
    "remove": re.compile(r"\b(?:remove|delete|erase|take)"),
    "move": re.compile(r"\b(?:move|shift|bring)"),
}
"""Verbs in the change of a step, beside names and places."""

_BACKGROUND = re.compile(rf"\b({'|'.join(TONES)}) background\b")

Look = tuple[str, str]
"""Colour and shape; no two objects of a scene that is edited share theirs."""


@dataclass(frozen=True, kw_only=True)
class EditRules:
    """The numbers in the verdict on an edit."""

    threshold: float = 0.3
    """Detections must score above this (strictly)."""

    keep_iou: float = 0.7
    """IoU from which an object is where it was, and a planned box where the object is."""

    max_change: float = 7.0
    """Most levels (of 255) by which the picture may change outside old and new boxes, on average."""

    halo: int = 2
    """Pixels around those boxes that may change too, and by which a planned place may reach into another
    object's: an object's edge is soft."""


@dataclass(frozen=True)
class Expected:
    """One object after the edits (or, with `gone`, one that is there no more)."""

    look: Look
    box: XYXY | None
    """Where it is, in pixels; None: where `op` puts it by its words."""

    op: EditOp | None = None
    """The edit that placed it."""

    anchor: int | None = None
    """Number of the object that those words refer to."""

    anchor_box: XYXY | None = None
    """Where that was at the time, if it is known."""

    old: XYXY | None = None
    """Where it was in the source."""

    changed: bool = False
    gone: bool = False


def expected_objects(source: Scene, ops: Sequence[EditOp]) -> list[Expected]:
    """The source's objects in order, then the added ones, as they should be after all edits in turn.

    Raises ValueError if an edit names an object that is not there.
    """
    state = [Expected((o.color, o.shape), _floats(o.box), old=_floats(o.box)) for o in source.objects]
    for op in ops:
        anchor = find_expected(state, (op.anchor[1], op.anchor[2])) if op.anchor else None
        anchor_box = None if anchor is None else state[anchor].box
        placed: dict[str, Any] = {"box": None, "op": op, "anchor": anchor, "anchor_box": anchor_box}
        if op.kind == "add":
            state.append(Expected((op.color, op.shape), changed=True, **placed))
            continue
        number = find_expected(state, (op.color, op.shape))
        one = replace(state[number], changed=True)
        if op.kind == "remove":
            state[number] = replace(one, gone=True)
        elif op.kind == "move":
            state[number] = replace(one, **placed)
        else:
            look = (op.new_color or op.color, op.new_shape or op.shape)
            state[number] = replace(one, look=look)
    return state


def find_expected(state: Sequence[Expected], look: Look) -> int:
    for number, one in enumerate(state):
        if one.look == look and not one.gone:
            return number
    shown = ", ".join(" ".join(one.look) for one in state if not one.gone) or "nothing"
    raise ValueError(f"no {' '.join(look)} to edit: the scene shows {shown}")


def _floats(box: Sequence[float]) -> XYXY:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2


def matches_words(box: XYXY, op: EditOp, anchor: XYXY | None, size: int) -> bool:
    """Whether a box is where an edit's words put it. A relation may hold beside another; without the anchor's
    box it counts as held."""
    if op.anchor:
        return anchor is None or op.anchor[0] in relations(box, anchor)
    return op.place is None or place_of(box, size) == op.place


# ---------------------------------------------------------------- pictures


@dataclass(frozen=True)
class EditVerdict:
    """Outcome of one edited picture; each text is a reason against it, None where nothing is."""

    change: str | None
    """Against the requested change."""

    others: str | None
    """Against all other objects being as they were, and there being no new ones."""

    change_outside: float
    """Mean absolute change, in levels of 255, outside old and new boxes; 0 where nothing is outside."""

    too_much: bool
    """Whether that is above the limit."""

    @property
    def correct(self) -> bool:
        """Whether nothing is against the picture."""
        return self.change is None and self.others is None and not self.too_much

    @property
    def reason(self) -> str | None:
        """All reasons in one line."""
        outside = f"changed by {self.change_outside:.1f} levels outside" if self.too_much else None
        return "; ".join(filter(None, (self.change, self.others, outside))) or None


def judge_edit(
    before: Image.Image,
    after: Image.Image,
    found: Sequence[Detection],
    expected: Sequence[Expected],
    rules: EditRules,
) -> EditVerdict:
    """Judge an edited picture by the objects `found` in it. Both pictures have the same size."""
    detections = [d for d in found if d.score > rules.threshold]
    places = found_places(detections, expected, rules)
    faults = [_fault_of(n, expected, places, detections, rules, after.width) for n in range(len(expected))]
    change = [faults[n] for n in _numbers(expected, True)]
    others = [faults[n] for n in _numbers(expected, False)]
    wanted = {one.look for one in expected if not one.gone}
    others += [f"there is a {d.color} {d.cls}" for d in detections if (d.color, d.cls) not in wanted]
    level = change_outside(before, after, changed_boxes(found, expected, rules), rules.halo)
    return EditVerdict(_joined(change), _joined(others), level, level > rules.max_change)


def changed_boxes(found: Sequence[Detection], expected: Sequence[Expected], rules: EditRules) -> list[XYXY]:
    """Where the picture may change: old places of changed objects, and new ones as they were found."""
    detections = [d for d in found if d.score > rules.threshold]
    new = [_place(one, detections) for one in expected if one.changed and not one.gone]
    old = [one.old for one in expected if one.changed]
    return [box for box in (*old, *new) if box]


def found_places(
    found: Sequence[Detection], expected: Sequence[Expected], rules: EditRules
) -> dict[int, XYXY | None]:
    """Of each expected object the box of what most plainly looks like it; None where nothing does."""
    detections = [d for d in found if d.score > rules.threshold]
    return {number: _place(one, detections) for number, one in enumerate(expected)}


def _numbers(expected: Sequence[Expected], changed: bool) -> list[int]:
    return [number for number, one in enumerate(expected) if one.changed is changed]


def _joined(reasons: Sequence[str | None]) -> str | None:
    return "; ".join(dict.fromkeys(filter(None, reasons))) or None


def _alike(look: Look, detections: Sequence[Detection]) -> list[Detection]:
    return [d for d in detections if (d.color, d.cls) == look]


def _place(one: Expected, detections: Sequence[Detection]) -> XYXY | None:
    alike = _alike(one.look, detections)
    return max(alike, key=lambda d: d.score).box if alike else None


def _fault_of(
    number: int,
    expected: Sequence[Expected],
    places: Mapping[int, XYXY | None],
    detections: Sequence[Detection],
    rules: EditRules,
    size: int,
) -> str | None:
    """Why object `number` is not as expected; None if it is."""
    one, name = expected[number], " ".join(expected[number].look)
    again = any(o.look == one.look and not o.gone for o in expected)
    alike = _alike(one.look, detections)
    if one.gone:
        return None if again or not alike else f"the {name} is still there"
    if len(alike) != 1:
        return f"{len(alike) or 'no'} {name}"
    box = alike[0].box
    if one.box is not None:
        return None if iou(box, one.box) >= rules.keep_iou else f"the {name} is not where it was"
    fault = place_fault(box, one, places, rules, size)
    return f"the {name} {fault}" if fault else None


def place_fault(
    box: XYXY, one: Expected, places: Mapping[int, XYXY | None], rules: EditRules, size: int
) -> str | None:
    """Why a box is not where words put an object; None if it is. `places`: as `found_places` gives them."""
    assert one.op is not None
    anchor = None
    if one.anchor is not None:
        anchor = one.anchor_box or places[one.anchor]
    if not matches_words(box, one.op, anchor, size):
        return "is not where it should be"
    # On a diagonal two relations hold, so the words may have been true before.
    if one.old and iou(box, one.old) >= rules.keep_iou and matches_words(one.old, one.op, anchor, size):
        return "has not moved"
    return None


def change_outside(before: Image.Image, after: Image.Image, boxes: Sequence[XYXY], halo: int) -> float:
    """Mean absolute difference in levels over pixels outside the boxes, each widened by `halo` pixels."""
    difference = np.abs(_levels(after) - _levels(before)).mean(axis=2)
    outside = np.ones(difference.shape, dtype=bool)
    for x1, y1, x2, y2 in boxes:
        rows = slice(max(int(y1) - halo, 0), int(np.ceil(y2)) + halo)
        outside[rows, max(int(x1) - halo, 0) : int(np.ceil(x2)) + halo] = False
    return float(difference[outside].mean()) if outside.any() else 0.0


def _levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=np.float32)


# ---------------------------------------------------------------- chains


def judge_edit_plan(
    chain: Chain,
    source: Scene,
    ops: Sequence[EditOp],
    world: World,
    rules: EditRules,
    dropped: Sequence[Dropped] = (),
) -> list[tuple[str, str]]:
    """Faults of an edit chain as (kind, reason): `malformed` (`dropped`, what the tolerant reader left out of
    the model's text), `chain`, `object`, `box`, `change`, `size` and `overlap` of a new place, `background`.

    What a step has placed is for the later ones where the chain itself has put it. No edit changes the
    background, so wherever the chain names it, it is the source's: a wrong name may well be drawn.
    """
    steps = edit_steps(chain)
    faults = [(fault.kind, fault.message) for fault in malformed(dropped)]
    if len(steps) != len(ops):
        return [*faults, ("chain", f"{len(steps)} steps where {len(ops)} are asked for")]
    for done, (op, step) in enumerate(zip(ops, steps, strict=True)):
        state = [_as_planned(one, ops, steps, world) for one in expected_objects(source, ops[:done])]
        faults += _step_faults(step, op, state, world, rules)
    tone = source.background.tone
    wrong = [name for name in _BACKGROUND.findall(chain.to_data()) if name != tone]
    return [*faults, *(("background", f"the background is {tone}, not {name}") for name in wrong[:1])]


def _as_planned(one: Expected, ops: Sequence[EditOp], steps: Sequence[EditStep], world: World) -> Expected:
    """The object where the chain's own step has placed it, if one has."""
    placing = [step for op, step in zip(ops, steps, strict=True) if op is one.op]
    if not placing:
        return one
    place = _planned_place(placing[0])
    return replace(one, box=None if place is None else place.to_pixels(world.size, world.size))


def _planned_place(step: EditStep) -> Box | None:
    """Where an added or moved object is to be: the last box of its step; None without one."""
    places = [*step.boxes, *(placed.box for placed in parse(step.change, "data").boxes)]
    return places[-1] if places else None


def planned_places(chain: Chain, source: Scene, ops: Sequence[EditOp], world: World) -> list[Detection]:
    """Where the chain puts the objects that are added or moved, as they should look in the end.

    Those without an area, and chains of another number of steps, plan nothing.
    """
    steps = edit_steps(chain)
    if len(steps) != len(ops):
        return []
    planned = []
    for one in expected_objects(source, ops):
        place = None if one.op is None or one.gone else _as_planned(one, ops, steps, world).box
        if place is not None and place[2] > place[0] and place[3] > place[1]:
            color, shape = one.look
            planned.append(Detection(shape, 1.0, place, color))
    return planned


def _step_faults(
    step: EditStep, op: EditOp, state: Sequence[Expected], world: World, rules: EditRules
) -> list[tuple[str, str]]:
    faults = []
    shape, color = read_phrase(step.object, world.shapes, world.colors)
    if (color, shape) != (op.color, op.shape):
        faults.append(("object", f"edits {step.object!r} instead of the {op.phrase}"))
    if not _first_box_right(step, op, state, world, rules):
        faults.append(("box", f"the box of the {op.phrase} is wrong"))
    if not _change_right(step, op, state, world):
        faults.append(("change", f"{step.change!r} is not the change asked for"))
    return [*faults, *_place_faults(step, op, state, world, rules)]


def _place_faults(
    step: EditStep, op: EditOp, state: Sequence[Expected], world: World, rules: EditRules
) -> list[tuple[str, str]]:
    """Faults of the pixels that the place of an added or moved object paints: too few, or not free."""
    box = _planned_place(step) if op.kind in ("add", "move") else None
    if box is None:
        return []
    rows, columns = fill_region(box, world.size, world.size)
    place = _floats((columns.start, rows.start, columns.stop, rows.stop))
    width, height = place[2] - place[0], place[3] - place[1]
    if min(width, height) < world.min_object / 2:
        return [("size", f"the {op.phrase} is to be only {width:.0f} x {height:.0f} pixels")]
    moved = find_expected(state, (op.color, op.shape)) if op.kind == "move" else None
    others = [one for number, one in enumerate(state) if number != moved and not one.gone]
    return [
        ("overlap", f"the {op.phrase} is to lie on the {' '.join(one.look)}")
        for one in others
        if one.box is not None and _depth(place, one.box) > rules.halo
    ]


def _depth(a: XYXY, b: XYXY) -> float:
    """How far two boxes reach into each other, in pixels; 0 or less where they are apart."""
    return min(min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis]) for axis in (0, 1))


def _first_box_right(
    step: EditStep, op: EditOp, state: Sequence[Expected], world: World, rules: EditRules
) -> bool:
    """The object's own box, or for add a place that fits the words."""
    box = step.boxes[0].to_pixels(world.size, world.size)
    if op.kind == "add":
        return matches_words(box, op, _anchor_box(op, state), world.size)
    true = state[find_expected(state, (op.color, op.shape))].box
    return true is None or iou(box, true) >= rules.keep_iou


def _anchor_box(op: EditOp, state: Sequence[Expected]) -> XYXY | None:
    return state[find_expected(state, (op.anchor[1], op.anchor[2]))].box if op.anchor else None


def _change_right(step: EditStep, op: EditOp, state: Sequence[Expected], world: World) -> bool:
    text = step.change.lower()
    if op.kind == "recolour":
        return [word for word in re.findall(r"[a-z]+", text) if word in world.colors][-1:] == [op.new_color]
    if op.kind == "replace":
        return read_phrase(text, world.shapes, world.colors) == (op.new_shape, op.new_color)
    if not _VERBS[op.kind].search(text):
        return False
    if op.kind != "move":
        return True
    places = [*step.boxes[1:], *(placed.box for placed in parse(step.change, "data").boxes)]
    return bool(places) and matches_words(
        places[-1].to_pixels(world.size, world.size), op, _anchor_box(op, state), world.size
    )
