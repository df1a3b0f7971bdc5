"""Placeholders in a chain's text and the coordinates that take their place.

    got    1. A room. 2. the chair 3. <bbox_0> 4. ...
    coord  {"<bbox_0>": "(483,571),(798,998)"}

Belongs here: putting coordinates in and taking them out. Not here: whether that gives a chain (`importer`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from got_core.chain.boxes import Box
from got_core.chain.grammar import Boxed, Chain, parse
from got_core.exchange.records import RecordError

_BOX = re.compile(r"\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)\s*,\s*\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)")
_WRAPS = (("<|", "|>"), ("<", ">"), ("{", "}"), ("[", "]"))
_DIGITS = re.compile(r"[0-9]+")
# What is surely a placeholder even where a record has no coordinates at all.
_USUAL = r"[<{\[]\|?\w*(?:box|coord|placeholder)\w*\|?[>}\]]"
_MARKERS = r"(?!<\|(?:box|obj)_(?:start|end)\|>)"


def coordinates_of(value: Any) -> dict[str, list[Box]]:
    """Boxes by placeholder, of a JSON text or an object.

    A placeholder's coordinates may be a text `(x1,y1),(x2,y2)` with or without markers, four numbers, two
    points, or a list of any of these. Raises RecordError where they are something else.
    """
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RecordError("bad_coordinates", f"not JSON: {str(error)[:100]}") from error
    if not isinstance(value, Mapping):
        raise RecordError("bad_coordinates", f"{type(value).__name__} instead of an object")
    # A parquet file holds every key that any row has; those of other rows are null.
    return {str(key): _boxes(str(key), one) for key, one in value.items() if one is not None}


def insert_boxes(text: str, coordinates: Mapping[str, list[Box]]) -> str:
    """The text with each placeholder replaced by its boxes in data form.

    A placeholder may stand bare or in `<>`, `<||>`, `{}` or `[]`, which go with it. Raises RecordError for a
    placeholder that the text does not hold, and for one in the text that has no coordinates.
    """
    if "" in coordinates:
        raise RecordError("bad_coordinates", "an empty placeholder")
    used: set[str] = set()

    def boxes_of(match: re.Match[str]) -> str:
        key = next(name for name, group in groups.items() if match[group] is not None)
        used.add(key)
        return ", ".join(map(str, coordinates[key]))

    if coordinates:
        groups = {key: f"key{k}" for k, key in enumerate(sorted(coordinates, key=len, reverse=True))}
        text = re.sub("|".join(_key_pattern(key, group) for key, group in groups.items()), boxes_of, text)
        unused = sorted(set(coordinates) - used)
        if unused:
            raise RecordError("placeholder_missing", f"the chain does not hold {unused[0]!r}")
    left = _placeholder_pattern(coordinates).search(text)
    if left:
        raise RecordError("placeholder_unknown", f"no coordinates for {left.group()!r}")
    return text


def extract_boxes(chain: Chain) -> tuple[str, dict[str, str]]:
    """The chain's data form with a placeholder for each box, and the boxes by placeholder.

    `insert_boxes` with those gives the data form back: placeholders are spelled so that the chain's own text
    holds nothing like them.
    """
    parts = parse(chain.to_data(), "data").parts
    words = "".join(part.text for part in parts if not isinstance(part, Boxed))
    stem = "bbox_"
    while f"<{stem}" in words:
        stem += "_"
    boxes: dict[str, str] = {}
    pieces = []
    for part in parts:
        if isinstance(part, Boxed):
            key = f"<{stem}{len(boxes)}>"
            boxes[key] = str(part.box)
            pieces.append(key)
        else:
            pieces.append(part.text)
    return "".join(pieces), boxes


def _placeholder_pattern(coordinates: Mapping[str, list[Box]]) -> re.Pattern[str]:
    """Matches what is spelled like the given placeholders but for their numbers."""
    if not coordinates:
        return re.compile(_MARKERS + _USUAL)
    kinds = {_DIGITS.sub("0", key): key for key in coordinates if _DIGITS.search(key)}
    patterns = ("[0-9]+".join(map(re.escape, _DIGITS.split(key))) for key in kinds.values())
    return re.compile("|".join(rf"(?<!\w){one}(?!\w)" for one in patterns) or r"(?!)")


def _key_pattern(key: str, group: str) -> str:
    """Matches a placeholder as a whole word, with the brackets around it if the key itself has none."""
    name = re.escape(key)
    if not (key[0].isalnum() or key[0] == "_"):
        return f"(?P<{group}>{name})"
    wrapped = "|".join(f"{re.escape(left)}{name}{re.escape(right)}" for left, right in _WRAPS)
    return rf"(?P<{group}>{wrapped}|(?<!\w){name}(?!\w))"


def _boxes(key: str, value: Any) -> list[Box]:
    try:
        found = _read(value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RecordError("bad_coordinates", f"{key!r}: {str(error)[:120]}") from error
    if not found:
        raise RecordError("bad_coordinates", f"{key!r}: no box")
    return found


def _read(value: Any) -> list[Box]:
    if isinstance(value, str):
        return _read_text(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{type(value).__name__} is no box")
    if len(value) == 4 and all(_is_number(one) for one in value):
        return [Box(*map(_whole, value))]
    points = [one for one in value if isinstance(one, list | tuple) and len(one) == 2]
    if len(value) == 2 and len(points) == 2 and all(_is_number(n) for point in points for n in point):
        return [Box(*map(_whole, (*value[0], *value[1])))]
    return [box for one in value for box in _read(one)]


def _read_text(text: str) -> list[Box]:
    boxes = [Box(*map(int, match.groups())) for match in _BOX.finditer(text)]
    rest = re.sub(r"<\|box_(?:start|end)\|>|\band\b|[\s,;.\[\]]", "", _BOX.sub("", text))
    if rest or not boxes:
        raise ValueError(f"{text[:60]!r} is not (x1,y1),(x2,y2)")
    return boxes


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError(f"{value} is no whole number in 0..999")
    return int(value)
