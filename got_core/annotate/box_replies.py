"""Reading the box that a model replies with: one meaning, or none.

Belongs here: forms of boxes in replies, their units and ranges; the boxes of several names in one reply. Not
here: other replies (`replies`).

The rule: what is no box in one of the forms below, more than one box, and a number outside of the picture
are errors that go back to the model. Nothing is cut to fit or chosen for the model, with one exception: for
the second, third ... object of a name, it may list all of them from left to right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from got_core.annotate.reasoning import ReplyError
from got_core.chain.boxes import LIMIT, Box

_MAX_STARTS = 64  # brackets at which JSON may begin
_KEYS = ("box", "bbox_2d", "bbox")
_BRACKET = re.compile(r"[{\[]")
_NUMBER = r"\s*(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*"
_POINTS = rf"\({_NUMBER},{_NUMBER}\)\s*,?\s*\({_NUMBER},{_NUMBER}\)"
_PLACED = re.compile(rf"{_POINTS}|\({_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\)")
_MARKED = re.compile(rf"<\|box_start\|>\s*{_POINTS}\s*<\|box_end\|>")
_BARE = re.compile(rf"{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}")
_OTHER_POINT = re.compile(rf"[(\[{{]{_NUMBER},")
_OBJECT = (
    r"(?:such |matching )?(?:objects?|match(?:es)?|box(?:es)?|bounding box(?:es)?|detections?|instances?)"
)
_FOUND = r"(?: (?:was|were|is|are|can be|could be))?(?: (?:found|visible|present|detected|seen|located))?"
_NONE = re.compile(
    rf"\W*(?:(?:there (?:is|are) )?no {_OBJECT}{_FOUND}|"
    r"(?:the object (?:was|is) |it is )?not (?:found|visible|present|detected|there)|"
    r"none(?: found)?|null|nil|nothing(?: found)?|n/?a|absent)"
    r"(?: in (?:the|this) (?:image|picture|photo))?\W*",
    re.I,
)


@dataclass(frozen=True)
class Frame:
    """The picture as it was sent, in pixels; `pixels`: whether the model gives boxes in them."""

    width: int
    height: int
    pixels: bool = False


def read_box(text: str, frame: Frame, occurrence: int = 0) -> Box | None:
    """A box in thousandths, None where the model says that there is no such object.

    Understood are `{"found": ..., "box": [x1, y1, x2, y2]}`, `{"bbox_2d": [...]}`, the list alone, two points
    `(x1,y1),(x2,y2)` with or without markers; in running text where it holds one box and no JSON. Of several
    boxes in one list the `occurrence`-th (from 0) is taken if that is not the first. Numbers run from 0 to
    1000, or to the picture's width and height, ends included.
    """
    if _NONE.fullmatch(text[:200]) and len(text) <= 200:
        return None
    boxes = [_box(corners, frame) for corners in _all_corners(text)]
    if len(set(boxes)) <= 1:
        return boxes[0] if boxes else None
    if not 0 < occurrence < len(boxes):
        raise ReplyError(f"the reply holds {len(boxes)} boxes: give the one that was asked for")
    if boxes != sorted(boxes, key=lambda box: box.x1):
        raise ReplyError(
            f"the reply holds {len(boxes)} boxes, not from left to right: give the one asked for"
        )
    return boxes[occurrence]


def read_boxes(
    text: str, frame: Frame, wanted: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Box | None]:
    """The boxes of names with occurrences, of those for which the reply has just what was asked for.

    Understood are `{"boxes": [...]}`, the list alone and objects one after the other, each object
    `{"bbox_2d": [...] or null, "label": name}` in any order. A name has as many entries as occurrences, from
    left to right, those that were not found at the end. A name without or with other entries is left out.
    ReplyError where that leaves nothing.
    """
    entries = _labelled(text)
    found: dict[tuple[str, int], Box | None] = {}
    for label in dict.fromkeys(_label(name) for name, _ in wanted):
        places = sorted(place for place in wanted if _label(place[0]) == label)
        given = [entry for entry in entries if _label(entry["label"]) == label]
        # Names that differ in capitals alone cannot be told apart.
        if len({name for name, _ in places}) == 1 and len(given) == len(places):
            with suppress(ReplyError):
                found |= zip(places, _from_left(given, frame), strict=True)
    if not found:
        raise ReplyError('the list must have one {"bbox_2d": ..., "label": ...} for each name, and no other')
    return found


def _labelled(text: str) -> list[dict[str, Any]]:
    """The JSON objects with a label of a reply."""
    values = _json_values(text)
    if len(values) == 1:
        inner = values[0].get("boxes", values) if isinstance(values[0], dict) else values[0]
        values = inner if isinstance(inner, list) else values
    if not values or not all(isinstance(v, dict) and isinstance(v.get("label"), str) for v in values):
        raise ReplyError('the reply must be {"boxes": [{"bbox_2d": [x1, y1, x2, y2], "label": name}, ...]}')
    return values


def _label(name: str) -> str:
    return " ".join(name.split()).casefold()


def _from_left(entries: Sequence[dict[str, Any]], frame: Frame) -> list[Box | None]:
    """The boxes of entries of one name. ReplyError where they are equal, or not from left to right."""
    corners = [_object_corners(entry, 0) for entry in entries]
    boxes = [_box(one[0], frame) if one else None for one in corners]
    known = [box for box in boxes if box is not None]
    if boxes[: len(known)] != known or len(set(known)) < len(known):
        raise ReplyError("entries of one name must be different boxes, those not found at the end")
    if known != sorted(known, key=lambda box: box.x1):
        raise ReplyError("entries of one name must be from left to right")
    return boxes


def _all_corners(text: str) -> list[list[float]]:
    """The boxes of a reply, each as four numbers; several only of one list."""
    if "<|box_start|>" in text:
        found = [_numbers(match) for match in _MARKED.finditer(text)]
        if len(found) != text.count("<|box_start|>"):
            raise ReplyError("boxes are written <|box_start|>(x1,y1),(x2,y2)<|box_end|>")
        return found
    values = _json_values(text)
    if values:
        boxes = [_corners_of(value) for value in values]
        if any(other != boxes[0] for other in boxes[1:]):
            raise ReplyError(f"the reply holds {len(values)} JSON values, one is asked for")
        return boxes[0]
    if bare := _BARE.fullmatch(text):
        return [_numbers(bare)]
    if "{" in text or not (found := [_numbers(match) for match in _PLACED.finditer(text)]):
        raise ReplyError("the reply holds no JSON")
    if len(found) > 1 or _OTHER_POINT.search(_PLACED.sub(" ", text)):
        raise ReplyError("the reply holds more numbers than those of one box")
    return found


def _json_values(text: str) -> list[Any]:
    """The JSON objects and lists in a text, in order."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    values, end, starts = [], 0, 0
    while (start := _BRACKET.search(text, end)) is not None:
        starts += 1
        try:
            value, end = decoder.raw_decode(text, start.start())
            values.append(value)
        except RecursionError as error:
            raise ReplyError("the JSON is nested too deeply") from error
        except ValueError as error:
            if start.group() == "{" or starts == _MAX_STARTS:
                raise ReplyError(f"the reply is no JSON: {str(error)[:200]}") from error
            end = start.end()
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _corners_of(value: Any, depth: int = 0) -> list[list[float]]:
    """The boxes that a JSON value stands for; none where it says that there is no such object."""
    if depth > 4:
        raise ReplyError("the JSON is nested too deeply")
    if isinstance(value, list) and value and not _is_box(value):
        if len({str(item.get("label")) for item in value if isinstance(item, dict)}) > 1:
            raise ReplyError("the reply lists objects of several names: give the one that was asked for")
        each = [_corners_of(item, depth + 1) for item in value]
        if len(value) > 1 and any(len(boxes) != 1 for boxes in each):
            raise ReplyError("the list must hold boxes [x1, y1, x2, y2] and nothing else")
        return [corners for boxes in each for corners in boxes]
    if isinstance(value, dict):
        return _object_corners(value, depth)
    if value is None or value == [] or (isinstance(value, str) and _NONE.fullmatch(value)):
        return []
    return [_four_numbers(value)]


def _object_corners(value: dict[str, Any], depth: int) -> list[list[float]]:
    given = [value[key] for key in _KEYS if key in value]
    found = value.get("found", True)
    if not given or any(other != given[0] for other in given) or not isinstance(found, bool):
        raise ReplyError('the JSON object must be {"found": true or false, "box": [x1, y1, x2, y2] or null}')
    nothing = given[0] in (None, [], [0, 0, 0, 0]) or isinstance(given[0], str)
    if "found" in value and found == nothing:
        raise ReplyError('"found" and "box" contradict each other')
    if not found:
        return []
    boxes = _corners_of(given[0], depth + 1)
    if len(boxes) > 1:
        raise ReplyError('"box" must be four numbers [x1, y1, x2, y2]')
    return boxes


def _is_box(value: list[Any]) -> bool:
    """Whether a list is one box (or meant to be one) rather than a list of boxes: numbers, or points."""
    if any(_is_number(item) for item in value):
        return True
    return all(isinstance(item, list) and len(item) == 2 and all(map(_is_number, item)) for item in value)


def _four_numbers(value: Any) -> list[float]:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(point, list) for point in value):
        value = [*value[0], *value[1]]
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise ReplyError('"box" must be four numbers [x1, y1, x2, y2]')
    return [float(item) for item in value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _numbers(match: re.Match[str]) -> list[float]:
    return [float(number) for number in match.groups() if number is not None]


def _box(corners: Sequence[float], frame: Frame) -> Box:
    """The box in thousandths. Raises ReplyError where its corners are swapped or outside of the picture."""
    wide, high = (frame.width, frame.height) if frame.pixels else (LIMIT, LIMIT)
    x1, y1, x2, y2 = corners
    if min(corners) < 0 or max(x1, x2) > wide or max(y1, y2) > high:
        raise ReplyError(f"the box must lie within 0..{wide} across and 0..{high} down")
    if max(corners) <= 1:
        raise ReplyError(f"coordinates are numbers from 0 to {wide} and {high}, not shares of 1")
    if x1 > x2 or y1 > y2:
        raise ReplyError("a box is its left, top, right and bottom edge, in this order")
    box = Box.from_pixels((x1, y1, x2, y2), wide, high)
    if not box.area:
        raise ReplyError(f"the box {box} has no area")
    return box
