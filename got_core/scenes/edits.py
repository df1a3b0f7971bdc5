"""Edit operations on scenes: applying them, wording them, and reading an instruction back.

An operation holds the one that follows it where an edit has several steps (`EditOp.then`). The place of a new
or moved object is drawn in sample.py; here it is only searched for (nearest free place) when an operation
comes without one, as it does from a parsed instruction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from got_core.scenes.config import KINDS
from got_core.scenes.prompts import article
from got_core.scenes.world import (
    PLACES,
    PLURALS,
    RELATIONS,
    RGB,
    PixelBox,
    Scene,
    SceneObject,
    place_of,
    relations,
)

CLEAR = 6
"""Pixels between two boxes from which on neither crowds the other."""


@dataclass(frozen=True, kw_only=True)
class EditOp:
    """One edit. `color` and `shape` name the object acted on; for add, the new object."""

    kind: str
    """add, remove, recolour, replace, move."""
    color: str
    shape: str
    new_color: str | None = None
    """Colour after recolour or replace."""
    new_shape: str | None = None
    """Shape after replace."""
    place: str | None = None
    """One of PLACES, for add and move."""
    anchor: tuple[str, str, str] | None = None
    """Relation, colour, shape of the object that add or move refers to."""
    box: PixelBox | None = None
    """Where add or move puts the object; None = the nearest free place that fits the words."""
    rgb: tuple[int, int, int] | None = None
    """Exact fill of the new colour; None = the name's value."""
    then: EditOp | None = None
    """The step that follows, where the edit has several; None = the last one."""

    @property
    def steps(self) -> tuple[EditOp, ...]:
        """The steps of the edit in order, each by itself."""
        rest = self.then.steps if self.then else ()
        return (replace(self, then=None), *rest)

    @property
    def intent(self) -> EditOp:
        """The operation as far as its instruction tells it: no box, no exact fill."""
        return replace(self, box=None, rgb=None, then=self.then and self.then.intent)

    @property
    def phrase(self) -> str:
        """The object acted on, e.g. `red circle`."""
        return f"{self.color} {self.shape}"


def in_turn(steps: Sequence[EditOp]) -> EditOp:
    """One edit of several steps. Raises ValueError where there is no step."""
    if not steps:
        raise ValueError("an edit has at least one step")
    first, *rest = steps
    return replace(first, then=in_turn(rest) if rest else None)


# ---------------------------------------------------------------- applying


def apply(scene: Scene, op: EditOp) -> Scene:
    """The scene after all steps of the edit.

    Raises ValueError if an object is not there, or there is no room for it.
    """
    for step in op.steps:
        scene = _applied(scene, step)
    return scene


def _applied(scene: Scene, op: EditOp) -> Scene:
    if op.kind == "add":
        new = _placed(scene, op, op.color, op.shape, _usual_side(scene))
        return replace(scene, objects=(*scene.objects, new))
    index = find(scene, op.color, op.shape)
    old = scene.objects[index]
    rest = replace(scene, objects=scene.objects[:index] + scene.objects[index + 1 :])
    if op.kind == "remove":
        return rest
    if op.kind == "move":
        moved = _placed(rest, op, op.color, op.shape, old.x2 - old.x1, old.rgb)
    else:
        color = op.new_color or old.color
        same = old.rgb if color == old.color else RGB[color]
        moved = replace(old, color=color, shape=op.new_shape or old.shape, rgb=op.rgb or same)
    return replace(scene, objects=(*scene.objects[:index], moved, *scene.objects[index + 1 :]))


def find(scene: Scene, color: str, shape: str) -> int:
    """Index of the one object of that colour and shape. Raises ValueError if there is not exactly one."""
    hits = [k for k, item in enumerate(scene.objects) if (item.color, item.shape) == (color, shape)]
    if len(hits) != 1:
        shown = ", ".join(f"{item.color} {item.shape}" for item in scene.objects) or "nothing"
        raise ValueError(f"{len(hits)} objects are a {color} {shape}: the scene shows {shown}")
    return hits[0]


def _placed(
    scene: Scene, op: EditOp, color: str, shape: str, side: int, rgb: tuple[int, int, int] | None = None
) -> SceneObject:
    box = op.box or _free_box(scene, op, side)
    return SceneObject(shape, color, *box, rgb=op.rgb or rgb or RGB[color])


def _usual_side(scene: Scene) -> int:
    sides = [item.x2 - item.x1 for item in scene.objects] or [scene.size * 5 // 16]
    return round(sum(sides) / len(sides))


def _free_box(scene: Scene, op: EditOp, side: int, margin: int = 3, gap: int = 2) -> PixelBox:
    """The free box of that side that fits the words and is nearest to where they point."""
    goal = pointed_at(scene, op, side)
    starts = range(margin, scene.size - margin - side + 1)
    boxes = [(x, y, x + side, y + side) for x in starts for y in starts]
    fitting = [box for box in boxes if fits_words(box, op, scene) and not collides(box, scene.objects, gap)]
    if not fitting:
        raise ValueError(f"no free place of {side} px for: {instruction(op)}")
    return min(fitting, key=lambda b: (b[0] + side / 2 - goal[0]) ** 2 + (b[1] + side / 2 - goal[1]) ** 2)


def pointed_at(scene: Scene, op: EditOp, side: int) -> tuple[float, float]:
    """x and y in pixels of the centre that the words point at most plainly, for an object of that side.

    The middle of the named third, or close beside the named object; it may be outside the picture.
    """
    if op.anchor:
        relation, color, shape = op.anchor
        box = scene.objects[find(scene, color, shape)].box
        far = (box[2] - box[0] + side) / 2 + CLEAR
        across, down = _STEPS[relation]
        return ((box[0] + box[2]) / 2 + far * across, (box[1] + box[3]) / 2 + far * down)
    k = PLACES.index(op.place or "center")
    return (scene.size * (2 * (k % 3) + 1) / 6, scene.size * (2 * (k // 3) + 1) / 6)


_STEPS: dict[str, tuple[int, int]] = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
"""Across and down, where a relation points."""


def fits_words(box: PixelBox, op: EditOp, scene: Scene) -> bool:
    """True if a box is where the operation's words put it; a relation must be the only one that holds."""
    if op.anchor:
        relation, color, shape = op.anchor
        return relations(box, scene.objects[find(scene, color, shape)].box) == (relation,)
    return op.place is None or place_of(box, scene.size) == op.place


def collides(box: PixelBox, objects: tuple[SceneObject, ...], gap: int) -> bool:
    """True if the box comes nearer than `gap` pixels to another object's box."""
    left, top, right, bottom = box[0] - gap, box[1] - gap, box[2] + gap, box[3] + gap
    return any(left < o.x2 and o.x1 < right and top < o.y2 and o.y1 < bottom for o in objects)


# ---------------------------------------------------------------- wording


def instruction(op: EditOp) -> str:
    """The standard wording, the one that the corpus' pair table holds."""
    return wordings(op)[0]


_JOINTS: tuple[tuple[str, str, str], ...] = (
    ("first ", ", then ", ", then "),
    ("", ", then ", " and finally "),
    ("first ", ", next ", ", finally "),
)
"""How each wording begins, goes on, and comes to its last step."""


def wordings(op: EditOp) -> tuple[str, ...]:
    """Several wordings of one edit, the standard one first; `parse_instruction` reads every one of them."""
    if op.then is None:
        return _step_wordings(op)
    joined = zip(_JOINTS, zip(*(_step_wordings(step) for step in op.steps), strict=True), strict=True)
    return tuple(
        f"{begin}{go_on.join(steps[:-1])}{finish}{steps[-1]}" for (begin, go_on, finish), steps in joined
    )


def _step_wordings(op: EditOp) -> tuple[str, str, str]:
    thing = op.phrase
    if op.kind == "add":
        new, where = article(thing), _where(op)
        return (f"add {new} {where}", f"put {new} {where}", f"draw {new} {where}")
    if op.kind == "remove":
        return (f"remove the {thing}", f"delete the {thing}", f"take the {thing} away")
    if op.kind == "recolour":
        color = op.new_color
        return (f"change the {thing} to {color}", f"make the {thing} {color}", f"turn the {thing} {color}")
    if op.kind == "replace":
        new = article(f"{op.new_color} {op.new_shape}")
        return (
            f"replace the {thing} with {new}",
            f"turn the {thing} into {new}",
            f"swap the {thing} for {new}",
        )
    if op.kind == "move":
        where = _where(op).replace("at the", "to the").replace("in the", "to the")
        return (f"move the {thing} {where}", f"shift the {thing} {where}", f"bring the {thing} {where}")
    raise ValueError(f"unknown edit {op.kind!r}: choose from {', '.join(KINDS)}")


def _where(op: EditOp) -> str:
    if op.anchor:
        relation, color, shape = op.anchor
        return f"{'to the ' if relation.endswith(' of') else ''}{relation} the {color} {shape}"
    return f"in the {op.place}" if op.place == "center" else f"at the {op.place}"


# ---------------------------------------------------------------- reading

_COLOR = f"({'|'.join(RGB)})"
_THING = rf"{_COLOR} ({'|'.join(PLURALS)})"
_NEW = rf"an? {_THING}"
_WHERE = (
    rf"(?:(?:to the )?({'|'.join(RELATIONS)}) the {_THING}"
    rf"|(?:at|in|to) the ({'|'.join(sorted(PLACES, key=len, reverse=True))}))"
)
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("add", rf"(?:add|put|draw) {_NEW} {_WHERE}"),
        ("remove", rf"(?:remove|delete|erase) the {_THING}"),
        ("remove", rf"take (?:away )?the {_THING}(?: away)?"),
        ("replace", rf"(?:replace|swap|exchange) the {_THING} (?:with|for|by) {_NEW}"),
        ("replace", rf"(?:turn|change) the {_THING} (?:into|to) {_NEW}"),
        ("recolour", rf"(?:change|turn|make|paint|recolou?r) the {_THING} (?:to |into )?{_COLOR}"),
        ("move", rf"(?:move|shift|bring) the {_THING} {_WHERE}"),
    )
)


_FIRST = re.compile(r"^first(?: of all)?,? ")
_NEXT = re.compile(r"(?:[,;.]? and|[,;.])? (?:then|next|after that|finally|lastly),? ")


def split_steps(text: str) -> list[str]:
    """The parts of `first ..., then ...`, in order, in plain lower case; one where there is one step."""
    plain = " ".join(text.strip().rstrip(".").lower().split())
    return _NEXT.split(_FIRST.sub("", plain))


def parse_instruction(text: str) -> EditOp:
    """The edit that an instruction asks for, without box and exact fill.

    Of several steps (`first ..., then ...`) it is the first one, with the others in `then`. Raises
    ValueError, with the wordings that are understood, for anything else.
    """
    return in_turn([_parse_step(part, text) for part in split_steps(text)])


def _parse_step(part: str, text: str) -> EditOp:
    for kind, pattern in _PATTERNS:
        if match := pattern.fullmatch(part):
            return _from_groups(kind, match.groups())
    raise ValueError(
        f"not a scene edit: {text!r}. Understood are 'add a red circle at the top left', "
        "'add a red circle to the left of the blue square', 'remove the red circle', "
        "'change the red circle to blue', 'replace the red circle with a blue square', "
        "'move the red circle to the top right', 'first remove the red circle, then add ...'; "
        f"shapes {', '.join(PLURALS)}; colours {', '.join(RGB)}"
    )


def _from_groups(kind: str, groups: tuple[str | None, ...]) -> EditOp:
    color, shape, *rest = groups
    assert color and shape
    op = EditOp(kind=kind, color=color, shape=shape)
    if kind == "recolour":
        return replace(op, new_color=rest[0])
    if kind == "replace":
        return replace(op, new_color=rest[0], new_shape=rest[1])
    if kind in ("add", "move"):
        relation, anchor_color, anchor_shape, place = rest
        anchor = (
            (relation, anchor_color, anchor_shape) if relation and anchor_color and anchor_shape else None
        )
        return replace(op, place=place, anchor=anchor)
    return op
