"""The plan on the canvas and the plan as text, in step both ways.

A canvas value is `{"chain": data form, "boxes": [{"from": number in chain or None, "phrase", "box"}], "rev",
"ghosts"}`. Belongs here: from a chain to such a value and back, what two plans differ in, plans of
pictures. Not here: single edits of chains (`got_core.chain.edits`), the canvas itself (`static/canvas.js`).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from got_core.chain.boxes import LIMIT, Box
from got_core.chain.edits import add, move_box, remove, replace_phrase
from got_core.chain.grammar import Chain, parse
from got_core.planning.check import Fault
from got_core.planning.edits import edit_steps
from got_core.scenes.prompts import article
from got_core.scenes.reader import read_scene

MOST_BOXES = 100
MOST_CHARACTERS = 20_000
"""Of a plan that is read from a page."""
NEW_PHRASE = "an object"
"""What a box is called until a person names it; so in `static/boxes.js`, too."""
SMALLEST = 20
"""Thousandths of a side: less is a slip of the hand, and of it no model draws anything."""


class PlanError(ValueError):
    """A plan that cannot be used; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class CanvasBox:
    """A box as the canvas has it."""

    before: int | None
    """Number in the chain that the canvas was given; None: drawn since."""

    phrase: str
    box: Box


def canvas_value(chain: Chain, earlier: Chain | None = None) -> dict[str, Any]:
    """What the canvas shows of a chain; `earlier`: places of its boxes are shown where they were others."""
    boxes = [
        {
            "from": number,
            "phrase": one.phrase,
            "box": corners(one.box),
            "locked": False,
        }
        for number, one in enumerate(chain.boxes)
    ]
    kept = {one.box for one in chain.boxes}
    ghosts = [corners(one.box) for one in earlier.boxes if one.box not in kept] if earlier else []
    return {"chain": chain.to_data(), "boxes": boxes, "ghosts": ghosts, "rev": uuid.uuid4().hex}


def corners(box: Box) -> list[int]:
    """x1, y1, x2, y2."""
    return [box.x1, box.y1, box.x2, box.y2]


def text_plan(text: str) -> Chain:
    """The chain of a text that a person may have changed. Raises PlanError."""
    if len(text) > MOST_CHARACTERS:
        raise PlanError(f"the plan has {len(text)} characters; at most {MOST_CHARACTERS} are read")
    try:
        return parse(text.strip())
    except ValueError as error:
        raise PlanError(f"the plan cannot be read: {error}") from error


def changed_plan(value: Any) -> Chain:
    """The chain that a canvas shows. Boxes keep their words where the canvas did not change them; new ones
    are named after the last, and another order puts names and places into one another's stead. Raises
    PlanError."""
    if not isinstance(value, Mapping) or not isinstance(value.get("chain"), str):
        raise PlanError("the canvas sent no plan: load the page again")
    chain, wanted = text_plan(value["chain"]), _boxes_of(value.get("boxes"))
    count = len(chain.boxes)
    kept = [one.before for one in wanted if one.before is not None]
    if len(set(kept)) != len(kept) or any(not 0 <= number < count for number in kept):
        raise PlanError("the canvas and its plan do not belong together: load the page again")
    try:
        for number in sorted(set(range(count)) - set(kept), reverse=True):
            chain = remove(chain, number)
        for one in [one for one in wanted if one.before is None]:
            chain = add(chain, one.phrase, one.box)
        return _placed(chain, wanted)
    except ValueError as error:
        raise PlanError(f"the plan cannot be changed like that: {error}") from error


def _placed(chain: Chain, wanted: Sequence[CanvasBox]) -> Chain:
    """The chain whose boxes, in order, have the places and names that are wanted."""
    for number, (one, placed) in enumerate(zip(wanted, chain.boxes, strict=True)):
        if one.box != placed.box:
            chain = move_box(chain, number, one.box)
        if one.phrase != placed.phrase:
            chain = replace_phrase(chain, number, one.phrase)
    return chain


def _boxes_of(boxes: Any) -> list[CanvasBox]:
    if not isinstance(boxes, list) or len(boxes) > MOST_BOXES:
        raise PlanError(f"a plan may have {MOST_BOXES} boxes at most")
    return [_box_of(number, entry) for number, entry in enumerate(boxes, start=1)]


def _box_of(number: int, entry: Any) -> CanvasBox:
    found = entry if isinstance(entry, Mapping) else {}
    phrase, place, before = found.get("phrase"), found.get("box"), found.get("from")
    if not isinstance(phrase, str) or not isinstance(place, list) or len(place) != 4:
        raise PlanError(f"box {number} has no name or place: load the page again")
    if before is not None and type(before) is not int:
        raise PlanError(f"box {number} has no origin: load the page again")
    try:
        return CanvasBox(before=before, phrase=phrase, box=Box(*place))
    except ValueError as error:
        raise PlanError(f"box {number}: {error}") from error


# -- two plans ----------------------------------------------------------------------------------------------


def differences(before: Chain, after: Chain) -> list[str]:
    """What the second plan has otherwise, a sentence a box. Boxes belong together by name, else by place."""
    old, new = list(before.boxes), list(after.boxes)
    pairs = []
    for same in (lambda a, b: a.phrase == b.phrase, lambda a, b: a.box == b.box):
        for one in list(old):
            match = next((other for other in new if same(one, other)), None)
            if match is not None:
                pairs.append((one, match))
                old.remove(one)
                new.remove(match)
    said = []
    for one, other in pairs:
        if one.phrase != other.phrase:
            said.append(f"{one.phrase or 'a box'} is {other.phrase or 'without a name'} now")
        if one.box != other.box:
            said.append(f"{other.phrase or 'a box'} moved from {one.box} to {other.box}")
    said += [f"{one.phrase or 'a box'} {one.box} is gone" for one in old]
    return said + [f"{one.phrase or 'a box'} {one.box} is new" for one in new]


def fault_sentence(fault: Fault, chain: Chain) -> str:
    """What is wrong with a plan, by the names of its boxes."""
    names = [f"{one.phrase or 'box'} ({number})" for number, one in enumerate(chain.boxes, start=1)]
    if fault.kind == "overlap" and len(fault.boxes) == 2:
        first, second = (names[number] for number in fault.boxes)
        return f"{first} and {second} overlap"
    known = {str(number): name for number, name in enumerate(names)}
    return re.sub(r"\bbox (\d+)", lambda found: known.get(found[1], found[0]), fault.message)


def unfinished(chain: Chain) -> list[str]:
    """Boxes that were begun on the canvas and not finished: without a name of their own, or far too small.

    A phrase may have several boxes ("two cats (...) and (...)"), and what is removed may be of any size.
    """
    said, named = [], False
    emptied = {
        step.first + k
        for step in edit_steps(chain)
        if step.change == "remove it"
        for k in range(len(step.boxes))
    }
    for number, one in enumerate(chain.boxes, start=1):
        name, phrase = f"{one.phrase or 'box'} ({number})", one.phrase.strip().lower()
        if phrase == NEW_PHRASE or not (phrase or named):
            said.append(f"{name} says nothing of what is to be there: choose it and press Enter to name it")
        named = named or bool(phrase)
        if number - 1 not in emptied and min(_sides(one.box)) < SMALLEST:
            said.append(f"{name} is too small for anything to be drawn there: drag its corners, or delete it")
    return said


def _sides(box: Box) -> tuple[int, int]:
    """Width and height; the last thousandth is the picture's edge."""
    last = LIMIT - 1
    return box.x2 - box.x1 + (box.x2 == last), box.y2 - box.y1 + (box.y2 == last)


def picture_plan(image: Image.Image) -> Chain:
    """A plan with a box for each object that the scene reader finds. Raises PlanError where it finds none."""
    found = read_scene(image, strict=False)
    chain = Chain(())
    for one in found:
        x1, y1, x2, y2 = one.box
        box = Box.from_pixels((x1, y1, min(x2, image.width), min(y2, image.height)), *image.size)
        chain = add(chain, article(f"{one.color} {one.shape}"), box)
    if not found:
        raise PlanError("no objects were found in the picture: draw the boxes on the canvas")
    return chain
