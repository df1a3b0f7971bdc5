"""The members of JSON objects in a judge's reply, wherever they stand in its words.

Belongs here: finding objects in running text, and one meaning of a member that comes several times. Not here:
what members mean (`replies`).

The rule: an object counts as a whole or not at all. One that begins and cannot be read makes the reply
unreadable; so do two objects, or two members of one name, that say different things.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from got_core.annotate.reasoning import ReplyError

_DEPTH = 4  # of objects and lists around the member
_OBJECTS = 32  # in one reply
_BEGINS = re.compile(r"\{\s*(?:[\"'}]|\\\")")


class UnreadableReply(ReplyError):
    """A reply from which no value can be read; the message says why, for the judge to read."""


@dataclass(slots=True)
class Object:
    """A JSON object with all its members, also of the same name, and the text around it."""

    pairs: list[tuple[str, Any]]
    """Names in small letters, and values."""

    def named(self, names: Collection[str]) -> list[Any]:
        """The values of members with one of these names, in small letters."""
        return [value for name, value in self.pairs if name in names]

    def text(self, names: Collection[str]) -> str:
        """The first text among the members of these names; "" where there is none."""
        return next((value for value in self.named(names) if isinstance(value, str)), "")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _object(pairs: list[tuple[str, Any]]) -> Object:
    return Object([(name.strip().lower(), value) for name, value in pairs])


_DECODER = json.JSONDecoder(parse_constant=_no_constant, strict=False, object_pairs_hook=_object)


def decoded(text: str) -> Any:
    """The JSON value that a whole text is, objects as `Object`. Raises ValueError."""
    text = text.strip()
    value, end = decoded_at(text, 0)
    if end != len(text):
        raise ValueError("there is more behind the value")
    return value


def decoded_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins there, and where it ends. Raises ValueError."""
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def objects_in(text: str) -> tuple[list[Object], str]:
    """The objects of a text that are no part of others, and the words outside of them.

    Raises UnreadableReply where one cannot be read.
    """
    if (whole := _whole_object(text)) is not None:
        return [whole], ""
    found: list[Object] = []
    outside, at = [], 0
    while begin := _BEGINS.search(text, at):
        try:
            value, end = decoded_at(text, begin.start())
        except ValueError as error:
            raise UnreadableReply(f"the JSON cannot be read: {str(error)[:200]}") from error
        found.append(value)
        outside.append(text[at : begin.start()])
        at = end
        if len(found) > _OBJECTS:
            raise UnreadableReply(f"the reply holds more than {_OBJECTS} JSON objects: give one")
    return found, "".join([*outside, text[at:]])


def _whole_object(text: str) -> Object | None:
    """The object that a text is and nothing else, as most replies are."""
    text = text.strip()
    if not text.startswith("{"):
        return None
    try:
        value, end = decoded_at(text, 0)
    except ValueError:
        return None
    return value if end == len(text) else None


def holders_of(value: Any, names: Collection[str], depth: int = 0) -> Iterator[Object]:
    """Objects that have a member of these names, in a value and what it holds, outermost only."""
    if depth > _DEPTH:
        return
    if isinstance(value, Object):
        if value.named(names):
            yield value
            return
        for _, member in value.pairs:
            yield from holders_of(member, names, depth + 1)
    elif isinstance(value, list):
        for member in value:
            yield from holders_of(member, names, depth + 1)
