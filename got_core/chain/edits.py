"""Edit chains, and edits that a user makes to a chain.

Belongs here: writing and reading the numbered list of single-turn and multi-turn edit chains (GoT paper,
section 4); moving, renaming, adding and removing objects of a chain. Not here: spelling (`grammar`).

    single-turn   1. source 2. object 3. box 4. change 5. result
    multi-turn    1. source 2. object box, change 3. object box, change ... n. result
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from got_core.chain.boxes import Box
from got_core.chain.grammar import Boxed, Chain, ChainError, Text, parse
from got_core.chain.palette import palette_color
from got_core.chain.phrases import phrase_span

_LEADING_BOX = re.compile(r"\s*(\([0-9]+,[0-9]+\),\([0-9]+,[0-9]+\))")
_BOX = re.compile(_LEADING_BOX.pattern.removeprefix(r"\s*"))
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class EditStep:
    """One change: the object, where it is, and what happens to it (all texts in data form)."""

    object: str
    boxes: tuple[Box, ...]
    change: str
    first: int = field(default=0, compare=False)
    """Of a chain that was read: which of its boxes, counted from 0, is the first of ``boxes``."""


@dataclass(frozen=True)
class EditPlan:
    """What an edit chain says: the source image, one or more steps, the edited image."""

    source: str
    steps: tuple[EditStep, ...]
    result: str


def write_edit_chain(
    source: str,
    object: str,
    box: Box | Sequence[Box],
    change: str,
    result: str,
) -> Chain:
    """Single-turn edit chain of five numbered items.

    `box` is the area (several where several objects change); `change` may hold boxes in data form. Raises
    ValueError for an empty item, ChainError for text that is no chain.
    """
    boxes = [box] if isinstance(box, Box) else list(box)
    return _numbered([source, object, ", ".join(map(str, boxes)), change, result])


def write_multi_turn(source: str, steps: Sequence[EditStep], result: str) -> Chain:
    """Multi-turn edit chain: the source, one item a step, the edited image. Errors as `write_edit_chain`."""
    if not steps:
        raise ValueError("a multi-turn edit chain needs at least one step")
    items = [f"{s.object} {', '.join(map(str, s.boxes))}, {s.change}" for s in steps]
    return _numbered([source, *items, result])


def read_edit_chain(chain: Chain) -> EditPlan:
    """What a single-turn or multi-turn edit chain says; items 2 and 3 of a single-turn one may be merged.

    Raises ChainError (position in data form) where the numbered list is missing or a step has no box.
    """
    text = chain.to_data()
    items = _items(text)
    if len(items) < 3:
        raise ChainError(0, f"an edit chain has at least three numbered items, this one has {len(items)}")
    (_, source), *middle, (_, result) = items
    before = len(_BOX.findall(source))
    steps = (replace(step, first=before + step.first) for step in _steps(middle))
    return EditPlan(source, tuple(steps), result)


def is_edit_chain(chain: Chain) -> bool:
    """Whether the chain is a numbered list that `read_edit_chain` reads."""
    try:
        read_edit_chain(chain)
    except ChainError:
        return False
    return True


def names_objects(plan: EditPlan, instruction: str) -> bool:
    """Whether an instruction has all words of the objects that an edit takes as they are ("the ...").

    Where it has not, only the picture tells what is meant.
    """
    said = set(_WORD.findall(instruction.lower()))
    taken = (step.object.lower() for step in plan.steps if step.object.lower().startswith("the "))
    return all(said.issuperset(_WORD.findall(name)[1:]) for name in taken)


def move_box(chain: Chain, index: int, box: Box) -> Chain:
    """The chain with its box number `index` (from 0) moved; words and mask colour stay."""
    at = _part_of(chain, index)
    part = chain.parts[at]
    assert isinstance(part, Boxed)
    return _with_parts(chain, at, at + 1, replace(part, box=box))


def replace_phrase(chain: Chain, index: int, phrase: str) -> Chain:
    """The chain with the phrase of box number `index` replaced; the box stays.

    Raises IndexError for no such box, ValueError for an empty phrase or where no phrase precedes the box.
    """
    at = _part_of(chain, index)
    part = chain.parts[at]
    assert isinstance(part, Boxed)
    phrase = _clean_phrase(phrase)
    if part.phrase:
        return _with_parts(chain, at, at + 1, replace(part, phrase=phrase))
    before, start, end = _phrase_before(chain, at)
    if start == end:
        raise ValueError(f"box {index} of the chain has no phrase before it")
    return _with_parts(chain, at - 1, at, Text(before[:start] + phrase + before[end:]))


def add(chain: Chain, phrase: str, box: Box) -> Chain:
    """The chain with one object more, named after the last boxed one ("a, b and c").

    Where nothing is boxed yet, the object is put in front of the text ("a red circle (...) on a table"). Mask
    colours that are the palette's follow the new order.
    """
    phrase, chain = _clean_phrase(phrase), _without_palette(chain)
    marked = any(isinstance(p, Boxed) and p.phrase for p in chain.parts)
    new = [Boxed(box, None, phrase, " ")] if marked else [Text(f"{phrase} "), Boxed(box)]
    places = [k for k, p in enumerate(chain.parts) if isinstance(p, Boxed)]
    if not places:
        lead = [Text(" ")] if chain.parts else []
        return Chain((*new, *lead, *chain.parts))
    last = places[-1]
    head = list(chain.parts[: last + 1])
    if len(places) > 1:
        _rejoin(head, " and ", ", ")
    return Chain((*head, Text(" and "), *new, *chain.parts[last + 1 :]))


def remove(chain: Chain, index: int) -> Chain:
    """The chain without box number `index`, its phrase, and the comma or "and" that joined it.

    Mask colours that are the palette's follow the new order.
    """
    at, chain = _part_of(chain, index), _without_palette(chain)
    part = chain.parts[at]
    assert isinstance(part, Boxed)
    before, start, _ = _phrase_before(chain, at)
    kept = before if part.phrase else before[:start].rstrip(" ") + " " * before[:start].endswith(" ")
    head = list(chain.parts[: at - 1 if before else at])
    rest = list(chain.parts[at + 1 :])
    after = rest.pop(0).text if rest and isinstance(rest[0], Text) else ""  # type: ignore[union-attr]
    joined_text, follows_and = _close_gap(kept, after, bool(head), bool(rest))
    if follows_and:
        _rejoin(head, ", ", " and ")
    return Chain((*head, Text(joined_text), *rest))


def _close_gap(before: str, after: str, first: bool, last: bool) -> tuple[str, bool]:
    """Text that stands where an object was, and whether the list before it has lost its "and"."""
    for joint in (", and ", " and ", ", "):
        if before.endswith(joint):
            kept = before[: -len(joint)]
            ends_list = "and" in joint and not after.startswith((", ", " and "))
            return kept + after, ends_list
    for joint in (", and ", " and ", ", "):
        if after.startswith(joint):
            return before + after[len(joint) :], False
    if before.endswith(" ") or not before:
        after = after.removeprefix(" ")
    return before + after, False


def _rejoin(head: list[Text | Boxed], old: str, new: str) -> None:
    """Change the joint before the last object of `head` from `old` to `new`; another joint stays."""
    if not head or not isinstance(head[-1], Boxed):
        return
    at = len(head) - 2
    if at < 1 or not isinstance(before := head[at], Text):
        return
    start = phrase_span(before.text)[0] if not head[-1].phrase else len(before.text)
    if before.text[:start] == old:
        head[at] = Text(new + before.text[start:])


def _numbered(items: Sequence[str]) -> Chain:
    cleaned = [" ".join(item.split()) for item in items]
    if not all(cleaned):
        raise ValueError(f"item {cleaned.index('') + 1} of an edit chain is empty")
    text = " ".join(f"{k}. {item}" for k, item in enumerate(cleaned, start=1))
    if [item for _, item in _items(text)] != cleaned:
        raise ValueError(f"an item of the edit chain holds the next item's number: {text[:80]!r}")
    return parse(text, "data")


def _items(text: str) -> list[tuple[int, str]]:
    """(position, text) of the items of a numbered list; numbers count up from 1, others are text."""
    marks: list[tuple[int, int]] = []
    for match in re.finditer(r"(?:(?<=\s)|\A)([0-9]{1,3})\.\s+", text):
        if int(match[1]) == len(marks) + 1:
            marks.append((match.start(), match.end()))
    following = [*marks[1:], (len(text), len(text))]
    return [(begin, text[begin:end].strip()) for (_, begin), (end, _) in zip(marks, following, strict=False)]


def _steps(middle: list[tuple[int, str]]) -> list[EditStep]:
    """The steps of the items between source and result; ``first`` counts from the first of them."""
    counts = [len(_BOX.findall(item)) for _, item in middle]
    if len(middle) == 3 and _LEADING_BOX.match(middle[1][1]) and not _change_of(middle[0]):
        boxes, rest = _leading_boxes(middle[1][1])
        object = _BOX.split(middle[0][1], maxsplit=1)[0].strip(" ,:")
        return [EditStep(object, boxes, " ".join(filter(None, [rest, middle[2][1]])), counts[0])]
    if len(middle) == 2 and _BOX.search(middle[0][1]):
        named = _object_step(*middle[0])
        if not _BOX.search(middle[1][1]) or (not named.change and _speaks_of(middle[1][1], named.object)):
            return [replace(named, change=" ".join(filter(None, [named.change, middle[1][1]])))]
    return [replace(_object_step(*item), first=sum(counts[:k])) for k, item in enumerate(middle)]


def _speaks_of(change: str, object: str) -> bool:
    """Whether a text is about an object that was named before: "it", or its last word."""
    words = set(re.findall(r"\w+", change.lower()))
    return bool(words & {"it", "its", "them", "their", *object.lower().split()[-1:]})


def _change_of(item: tuple[int, str]) -> str:
    """What an item says after its first boxes; "" where it has none."""
    return _object_step(*item).change if _BOX.search(item[1]) else ""


def _object_step(position: int, item: str) -> EditStep:
    found = _BOX.search(item)
    if found is None:
        raise ChainError(position, f"edit step {item[:40]!r} has no box")
    boxes, rest = _leading_boxes(item[found.start() :])
    return EditStep(item[: found.start()].strip(" ,:"), boxes, rest)


def _leading_boxes(item: str) -> tuple[tuple[Box, ...], str]:
    """The boxes that an item begins with (separated by commas or "and"), and the text after them."""
    boxes: list[Box] = []
    while (found := _LEADING_BOX.match(item)) is not None:
        (part,) = parse(found[1], "data").parts
        assert isinstance(part, Boxed)
        boxes.append(part.box)
        item = item[found.end() :]
        joint = re.match(r"\s*(?:,|and)\s*(?=\([0-9])", item)
        item = item[joint.end() :] if joint else item
    return tuple(boxes), item.strip(" ,:.")


def _part_of(chain: Chain, index: int) -> int:
    places = [k for k, part in enumerate(chain.parts) if isinstance(part, Boxed)]
    if not 0 <= index < len(places):
        raise IndexError(f"box {index} of a chain with {len(places)} boxes")
    return places[index]


def _phrase_before(chain: Chain, at: int) -> tuple[str, int, int]:
    """Text before the box at part `at`, and where in it the box's phrase stands."""
    before = chain.parts[at - 1] if at else None
    if not isinstance(before, Text):
        return "", 0, 0
    return before.text, *phrase_span(before.text)


def _with_parts(chain: Chain, start: int, end: int, *parts: Text | Boxed) -> Chain:
    return Chain((*chain.parts[:start], *parts, *chain.parts[end:]))


def _without_palette(chain: Chain) -> Chain:
    """The chain with colours written only where they are not those that the palette gives anyway."""
    parts, number = list(chain.parts), 0
    for at, part in enumerate(parts):
        if isinstance(part, Boxed):
            if part.color == palette_color(number):
                parts[at] = replace(part, color=None)
            number += 1
    return Chain(tuple(parts))


def _clean_phrase(phrase: str) -> str:
    cleaned = " ".join(phrase.split())
    if not cleaned:
        raise ValueError("the phrase of an object must not be empty")
    return cleaned
