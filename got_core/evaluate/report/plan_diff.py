"""What is different between two plans for the same prompt.

    diff = plan_diff("a cat (1,2),(300,400)", "a cat (200,2),(500,400) by a dog (1,1),(90,90)")
    diff["moved"]  # [{"phrase": "a cat", "iou": 0.2, "shift": [20.0, 0.0], ...}]

Belongs here: objects that came, went or moved, and the words. Not here: how a difference is shown
(`gallery`), or whether a plan is right (`planning`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from got_core.chain.boxes import LIMIT
from got_core.chain.grammar import Chain, PlacedBox, parse_tolerant

MOST = 4000
"""Characters of a plan that are compared: a difference of texts costs the product of their lengths."""

_WORD = re.compile(r"\s+|\w+|[^\w\s]")


def plan_diff(before: str | None, after: str | None) -> dict[str, Any] | None:
    """The second plan against the first, as plain JSON; None where one of them is not known.

    `added`, `removed`: phrases with their box; `moved`: objects of one phrase in both plans whose boxes
    differ, with `iou` (0 to 1), `shift` of the centre and change of `size` in percent of the picture's sides
    (right and down are positive); `kept`: how many have the same box; `text`: pieces of both texts in order,
    each with `op` (`same`, `added`, `removed`); `equal`.
    """
    if before is None or after is None:
        return None
    one, other = (parse_tolerant(text[:MOST])[0] for text in (before, after))
    pairs, removed, added = _paired(one, other)
    moved = [_moved(old, new) for old, new in pairs if old.box != new.box]
    return {
        "added": [_placed(box) for box in added],
        "removed": [_placed(box) for box in removed],
        "moved": moved,
        "kept": len(pairs) - len(moved),
        "text": list(_pieces(before[:MOST], after[:MOST])),
        "equal": before == after,
    }


def _paired(
    one: Chain, other: Chain
) -> tuple[list[tuple[PlacedBox, PlacedBox]], list[PlacedBox], list[PlacedBox]]:
    """Boxes of the same phrase, those that overlap most first, and what is left of either plan."""
    left, right = list(enumerate(one.boxes)), list(enumerate(other.boxes))
    near = sorted(
        (
            (-old.box.iou(new.box), _distance(old, new), i, j)
            for i, old in left
            for j, new in right
            if _name(old) == _name(new)
        )
    )
    taken: dict[int, int] = {}
    for _, _, i, j in near:
        if i not in taken and j not in taken.values():
            taken[i] = j
    pairs = [(one.boxes[i], other.boxes[j]) for i, j in sorted(taken.items())]
    gone = [box for i, box in left if i not in taken]
    return pairs, gone, [box for j, box in right if j not in taken.values()]


def _name(placed: PlacedBox) -> str:
    return " ".join(placed.phrase.lower().split())


def _centre(placed: PlacedBox) -> tuple[float, float]:
    return (placed.box.x1 + placed.box.x2) / 2, (placed.box.y1 + placed.box.y2) / 2


def _distance(old: PlacedBox, new: PlacedBox) -> float:
    return sum(abs(a - b) for a, b in zip(_centre(old), _centre(new), strict=True))


def _moved(old: PlacedBox, new: PlacedBox) -> dict[str, Any]:
    shift = [b - a for a, b in zip(_centre(old), _centre(new), strict=True)]
    size = [new.box.width - old.box.width, new.box.height - old.box.height]
    return {
        "phrase": new.phrase,
        "before": str(old.box),
        "after": str(new.box),
        "iou": old.box.iou(new.box),
        "shift": [100 * value / LIMIT for value in shift],
        "size": [100 * value / LIMIT for value in size],
    }


def _placed(placed: PlacedBox) -> dict[str, str]:
    return {"phrase": placed.phrase, "box": str(placed.box)}


def _pieces(before: str, after: str) -> Iterator[dict[str, str]]:
    old, new = _WORD.findall(before), _WORD.findall(after)
    for op, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if op == "equal":
            yield _piece("same", old[i1:i2])
            continue
        yield from (
            _piece(name, words) for name, words in (("removed", old[i1:i2]), ("added", new[j1:j2])) if words
        )


def _piece(op: str, words: Sequence[str]) -> dict[str, str]:
    return {"op": op, "text": "".join(words)}
