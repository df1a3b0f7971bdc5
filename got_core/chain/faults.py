"""What the running text of a chain must not hold, and the messages about it.

Belongs here: the error type, the search for faults and their wording. Not here: reading chains (`grammar`).
"""

from __future__ import annotations

import re
from typing import Literal

from got_core.chain.boxes import LIMIT

BOX_START, BOX_END = "<|box_start|>", "<|box_end|>"
OBJ_START, OBJ_END = "<|obj_start|>", "<|obj_end|>"

Spelling = Literal["data", "model", "marked"]

TIGHT_POINTS = r"\((?P<x1>[0-9]+),(?P<y1>[0-9]+)\),\((?P<x2>[0-9]+),(?P<y2>[0-9]+)\)"
_NUMBER = r"\s*[-+]?[0-9]+(?:\.[0-9]+)?\s*"
LOOSE_POINTS = (
    rf"\((?P<x1>{_NUMBER}),(?P<y1>{_NUMBER})\)\s*,\s*"
    rf"\((?P<x2>{_NUMBER}),(?P<y2>{_NUMBER})\)"
)

_TIGHT = re.compile(TIGHT_POINTS)
_FAULT = re.compile(
    rf"(?P<marker><\|)|(?P<box>{LOOSE_POINTS})|(?P<point>\([0-9]+,[0-9]+\))|(?P<open>\([0-9]+,[0-9]*\Z)"
)
# How much goes with a fault when a tolerant reader throws it away.
_DEBRIS = re.compile(
    r"<\|box_start\|>[^<]{0,80}<\|box_end\|>(?: \([A-Za-z]+\))?"
    r"|<\|box_start\|>[\s0-9(),.+-]*"
    r"|<\|\w*\|?>?"
    rf"|{LOOSE_POINTS}"
    r"|\([0-9]+,[0-9]+\)(?:\s*,\s*\(?[0-9]*,?[0-9]*\)?)?"
    r"|\([0-9]+,[0-9]*\Z"
)


class ChainError(ValueError):
    """Text that is no chain. `position` is the character (from 0) where the fault begins."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(f"{message} (at character {position})")
        self.position = position
        self.message = message

    def __reduce__(self) -> tuple[type[ChainError], tuple[int, str]]:
        return type(self), (self.position, self.message)


def check_text(text: str, offset: int = 0, spelling: Spelling = "data") -> None:
    """Raise ChainError at the first marker, box, lone point or unfinished coordinates in running text."""
    fault = _FAULT.search(text)
    if fault is None:
        return
    raise ChainError(offset + fault.start(), _fault_text(fault, text, spelling))


def first_debris(text: str, start: int = 0) -> tuple[int, int, str] | None:
    """The first fault in running text as (start, end, reason), with everything that has to go with it."""
    fault = _FAULT.search(text, start)
    if fault is None:
        return None
    debris = _DEBRIS.match(text, fault.start())
    assert debris is not None, "every fault is debris"
    return fault.start(), debris.end(), _fault_text(fault, text, "data")


def _fault_text(fault: re.Match[str], text: str, spelling: Spelling) -> str:
    if fault["marker"]:
        return _marker_fault(text[fault.start() :], spelling)
    return _coordinate_fault(fault, spelling)


def _coordinate_fault(fault: re.Match[str], spelling: Spelling) -> str:
    if fault["open"]:
        return f"unfinished coordinates {fault.group()!r}"
    if fault["point"]:
        return f"half a box {fault.group()!r}: a box is (x1,y1),(x2,y2)"
    if spelling != "data" and _TIGHT.fullmatch(fault.group()):
        return f"box {fault.group()} without {BOX_START} and {BOX_END}"
    return f"malformed box {fault.group()!r}: need whole numbers in 0..{LIMIT - 1} without spaces"


def _marker_fault(rest: str, spelling: Spelling) -> str:
    """What is wrong with the text that begins at an unexpected marker."""
    if rest.startswith(BOX_START):
        return _box_fault(rest[len(BOX_START) :])
    if rest.startswith(OBJ_START + OBJ_END):
        return "empty marked phrase"
    if rest.startswith(OBJ_START):
        return (
            "marked phrase without its box"
            if spelling != "model"
            else f"{OBJ_START} in a chain with mask colours"
        )
    for marker in (BOX_END, OBJ_END):
        if rest.startswith(marker):
            return f"{marker} without its start"
    token = re.match(r"<\|\w*(?:\|>)?", rest)
    return f"{token.group()!r} has no place in a chain" if token else "'<|' has no place in a chain"


def _box_fault(inside: str) -> str:
    points, closed, after = inside.partition(BOX_END)
    if not closed or BOX_START in points:
        return f"{BOX_START} is never closed"
    if not _TIGHT.fullmatch(points):
        return f"malformed box {points[:40]!r} between markers: need (x1,y1),(x2,y2) without spaces"
    return f"no mask colour after {BOX_END}: need one space and one word in brackets, got {after[:12]!r}"
