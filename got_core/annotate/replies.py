"""Reading what models reply: tolerant of wrapping, strict about meaning.

Belongs here: one function for each form of reply, text in, value out. Whatever the text, it gives a value or
raises ReplyError, whose message can be sent to the model; `bounded` goes before each of them. Not here:
taking off reasoning (`reasoning`) and introductions (`preamble`), boxes (`box_replies`), retries
(`dispatch`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from got_core.annotate.box_replies import Frame, read_box, read_boxes
from got_core.annotate.preamble import bare_text
from got_core.annotate.reasoning import ReplyError, answer_text
from got_core.chain.boxes import Box
from got_core.chain.edits import EditPlan, read_edit_chain
from got_core.chain.faults import check_text
from got_core.chain.grammar import Chain, ChainError, parse_tolerant

__all__ = ["Frame", "ReplyError", "read_box", "read_boxes"]

T = TypeVar("T")

MAX_REPLY = 20_000
"""Characters of an answer, at most: longer ones are refused."""
_MAX_NAMES = 64
_FENCE = re.compile(r"\A\s*```\w*\s*\n?(.*?)\n?\s*(?:```\s*)?\Z", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_BACKGROUND = re.compile(r"(?:the )?background", re.I)


def read_paragraph(text: str, max_characters: int = 6000) -> str:
    """One paragraph of running text that can become part of a chain."""
    plain = bare_text(_unfenced(text))
    if plain[:1] in ("{", "[") and _is_json(plain):
        raise ReplyError("the reply must be running text, not JSON")
    return _paragraph(plain, max_characters)


def read_entities(text: str, caption: str) -> list[str]:
    """Names in the caption's wording; a name is there as often as the caption mentions it, at most.

    Names that the caption does not hold and "background" are left out; if nothing is left of a list that was
    not empty, the reply cannot be used.
    """
    names = _names(_member(_json(text), "entities"))
    kept: list[str] = []
    for name in names:
        found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", caption, re.I)
        if found is None or _BACKGROUND.fullmatch(name):
            continue
        mentions = len(re.findall(rf"(?<!\w){re.escape(found.group())}(?!\w)", caption))
        if kept.count(found.group()) < mentions:
            kept.append(found.group())
    if names and not kept:
        raise ReplyError("none of the names stands in the caption: use its exact words")
    return kept


def read_steps(text: str) -> list[str]:
    """The single edits of an instruction, at least one."""
    steps = _names(_member(_json(text), "steps"))
    if not steps:
        raise ReplyError('"steps" is empty: an instruction has at least one step')
    return steps


def read_task(text: str, tasks: Sequence[str]) -> str:
    """One of the task types."""
    task = _string(_member(_json(text), "task")).lower()
    if task not in tasks:
        raise ReplyError(f'"task" must be one of {", ".join(tasks)}')
    return task


def read_named(text: str, keys: Sequence[str]) -> list[str]:
    """The strings of an object's members, in the order of `keys`."""
    value = _json(text)
    return [_phrase(_string(_member(value, key))) for key in keys]


def read_wordings(text: str) -> list[str]:
    """Exactly three wordings; more are cut off."""
    wordings = list(dict.fromkeys(_names(_member(_json(text), "instructions"))))
    if len(wordings) < 3:
        raise ReplyError(f'"instructions" must hold three different wordings, there are {len(wordings)}')
    return wordings[:3]


def read_chain(text: str, boxes: Sequence[Sequence[Box]]) -> str:
    """A numbered edit chain in data form with exactly these boxes, step by step."""
    plain = " ".join(_CONTROL.sub(" ", bare_text(_unfenced(text))).split())
    chain, dropped = parse_tolerant(plain)
    if dropped:
        raise ReplyError(f"{dropped[0].text[:60]!r} in the chain cannot be read: {dropped[0].reason}")
    plan = _plan(chain)
    wanted = [list(step) for step in boxes]
    if [placed.box for placed in chain.boxes] != [box for step in wanted for box in step]:
        given = ", ".join(str(box) for step in wanted for box in step)
        raise ReplyError(f"the chain must hold exactly these boxes, in this order: {given}")
    if len(plan.steps) != len(wanted):
        raise ReplyError(f"the chain has {len(plan.steps)} steps, {len(wanted)} were asked for")
    if not (plan.source and plan.result and all(step.object for step in plan.steps)):
        raise ReplyError("an item of the numbered list is empty")
    return chain.to_data()


def bounded(read: Callable[[str], T]) -> Callable[[str], T]:
    """The reader, given the answer alone, and never one that is too long."""

    def read_bounded(reply: str) -> T:
        text = answer_text(reply)
        if len(text) > MAX_REPLY:
            raise ReplyError(f"the reply has {len(text)} characters, at most {MAX_REPLY} are read")
        return read(text)

    return read_bounded


def stored_text(reply: str) -> str:
    """What is kept of a reply: the answer, or all of it where there is none, never more than is read."""
    with suppress(ReplyError):
        reply = answer_text(reply)
    return reply[: MAX_REPLY + 1]


def plain_text(text: object) -> str:
    """The text of a reply as something that every table can hold: no lone surrogates, "" for no text."""
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else ""


def _paragraph(text: str, max_characters: int) -> str:
    plain = " ".join(_CONTROL.sub(" ", text).split())
    if not any(character.isalpha() for character in plain):
        raise ReplyError("the reply holds no text")
    if len(plain) > max_characters:
        raise ReplyError(f"the text has {len(plain)} characters, at most {max_characters} are allowed")
    try:
        check_text(plain)
    except ChainError as error:
        raise ReplyError(f"the text must hold neither coordinates nor markers: {error}") from error
    return plain


def _plan(chain: Chain) -> EditPlan:
    try:
        return read_edit_chain(chain)
    except ChainError as error:
        raise ReplyError(str(error)) from error


def _unfenced(text: str) -> str:
    match = _FENCE.match(text) if text.lstrip().startswith("```") else None
    return match[1] if match else text


def _json(text: str) -> Any:
    """The first JSON value in a text."""
    plain = _unfenced(text)
    starts = [at for at in (plain.find("{"), plain.find("[")) if at >= 0]
    if not starts:
        raise ReplyError("the reply holds no JSON")
    try:
        value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(plain, min(starts))
    except RecursionError as error:
        raise ReplyError("the JSON is nested too deeply") from error
    except ValueError as error:
        raise ReplyError(f"the reply is no JSON: {str(error)[:200]}") from error
    return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _member(value: Any, key: str) -> Any:
    """A member of an object; a bare list is taken for its only member."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or key not in value:
        raise ReplyError(f'the JSON object must have "{key}"')
    return value[key]


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ReplyError(f"expected a string, got {_type_name(value)}")
    return value


def _names(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ReplyError(f"expected a list of strings, got {_type_name(value)}")
    if len(value) > _MAX_NAMES:
        raise ReplyError(f"the list has {len(value)} entries, at most {_MAX_NAMES} are allowed")
    return [_phrase(_string(item)) for item in value]


def _phrase(text: str) -> str:
    """A short phrase that can become part of a chain."""
    return _paragraph(plain_text(text), 600).rstrip(" .")


def _type_name(value: Any) -> str:
    return type(value).__name__
