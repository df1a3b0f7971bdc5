"""Values of foreign tables: what is of another type than expected is nothing, never an error.

Belongs here: reading single values. Not here: rows (`readings`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """One detection; `box` is (x1, y1, x2, y2) in pixels of the judged picture."""

    name: str
    box: tuple[float, float, float, float]
    score: float | None = None
    color: str | None = None


def objects_of(text: Any) -> tuple[FoundObject, ...]:
    """Detections of a column's JSON: objects of cls, score, box and perhaps color, or lists of these four;
    others are left out."""
    rows = parsed(text)
    found = [_object(one) for one in rows] if isinstance(rows, list) else []
    return tuple(one for one in found if one is not None)


_DETECTION = ("cls", "score", "box", "color")


def _object(one: Any) -> FoundObject | None:
    fields = dict(zip(_DETECTION, one, strict=False)) if isinstance(one, list) else one
    if not isinstance(fields, dict):
        return None
    name, box = text(fields.get("cls")), fields.get("box")
    sides = [number(side) for side in box] if isinstance(box, list) else []
    if name is None or len(sides) != 4 or None in sides:
        return None
    x1, y1, x2, y2 = (side for side in sides if side is not None)
    color, score = text(fields.get("color")), number(fields.get("score"))
    return FoundObject(name=name, box=(x1, y1, x2, y2), score=score, color=color)


def asked_for(metadata: Any) -> str | None:
    """GenEval's clauses in words, such as `2 circle (red), left of clause 1; fewer than 3 circle`."""
    if not isinstance(metadata, dict):
        return None
    clauses = [
        *(_clause(one, "") for one in metadata.get("include") or () if isinstance(one, dict)),
        *(_clause(one, "fewer than ") for one in metadata.get("exclude") or () if isinstance(one, dict)),
    ]
    return "; ".join(clauses) or None


def _clause(one: Mapping[str, Any], before: str) -> str:
    color, position = one.get("color"), one.get("position")
    text = f"{before}{one.get('count')} {one.get('class')}{f' ({color})' if color else ''}"
    if isinstance(position, list) and len(position) == 2 and isinstance(position[1], int):
        text += f", {position[0]} object {position[1] + 1}"
    return text


def parsed(value: Any) -> Any:
    """JSON of a text; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def text(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def texts(value: Any) -> tuple[str, ...]:
    """The texts of a list."""
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def whole(value: Any) -> int | None:
    """A whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: Any) -> float | None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
