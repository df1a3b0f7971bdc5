"""Reading what judges reply: tolerant of wrapping, strict about meaning.

Reasoning that comes before the answer, fences, tags and words around a JSON object are taken off. What is
left has one meaning, or it is unreadable: a figure outside of its range, another number of figures, NaN, two
verdicts in one reply. Nothing is cut to fit, and there is no default.

Belongs here: one function for each form of verdict, text in, value out. Not here: finding JSON in words
(`json_members`), refusals in words (`declining`), asking again (`judge`), the forms of single benchmarks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from got_core.annotate.reasoning import ReplyError, answer_text
from got_core.evaluate.judges.json_members import (
    Object,
    UnreadableReply,
    decoded,
    holders_of,
    objects_in,
)

__all__ = [
    "Scores",
    "UnreadableReply",
    "any_of",
    "read_choice",
    "read_labelled",
    "read_listed",
    "read_number",
    "read_scores",
]

T = TypeVar("T")

MAX_REPLY = 20_000
"""Characters of an answer, at most: longer ones are not read."""
MAX_REASONING = 4000
"""Characters that are kept of what a judge says of its scores."""
SCORE_NAMES = frozenset(["score", "scores"])
REASON_NAMES = frozenset(
    ["reasoning", "reason", "reasons", "rationale", "explanation", "justification", "comment"]
)
ANSWER_NAMES = ("answer", "choice", "label", "verdict", "result")

_FENCE = "```"
_LANGUAGE = re.compile(r"(?:[A-Za-z][\w-]*(?=[ \t]*[\n\[{\"]))?[ \t]*\n?")
"""Behind a fence: a word counts as the name of a language only where it cannot be part of the answer."""
_NUMBER = r"[-+]?[0-9]{1,6}(?:\.[0-9]{1,9})?"
_FIGURE = re.compile(rf"({_NUMBER})(?:\s*(?:/|out of)\s*({_NUMBER}))?", re.I)
_FIGURES = re.compile(rf"{_NUMBER}(?:\s*,\s*{_NUMBER})+")
_LABEL = re.compile(r"\A[\s*_#>|-]*(?:the |my |final |overall )*(?:scores?|ratings?)[\s*_]*[:=][\s*_]*", re.I)
_MARKUP = " \t\r\n*_`#>|\"'"


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures that a judge gave together, in the order in which they were asked for."""

    values: tuple[float, ...]
    reasoning: str = ""
    """What the judge says of them; "" for nothing."""


def read_scores(
    text: str, count: int, low: float, high: float, names: Collection[str] = SCORE_NAMES
) -> Scores:
    """So many scores between `low` and `high`, ends included.

    Understood are `{"score": [8, 9], "reasoning": "..."}` anywhere in the reply, `[8, 9]`, `8, 9`, and for
    one score also `{"score": 8}` and `8`; numbers as texts, `"8/10"` where 10 is the highest, and a label
    `Score:` before them. Raises UnreadableReply.
    """
    answer = answer_of(text)
    holders, outside = _holders(answer, names)
    if holders:
        found = {_figures(value, count, low, high) for one in holders for value in one.named(names)}
        if len(found) > 1:
            raise UnreadableReply("the reply gives more than one verdict: give one")
        return Scores(found.pop(), _reasoning(holders[0], outside))
    return Scores(_figures(_bare(answer), count, low, high))


def read_number(text: str, low: float, high: float) -> float:
    """One score, as `read_scores` reads it."""
    return read_scores(text, 1, low, high).values[0]


def read_choice(text: str, choices: Sequence[str]) -> str:
    """One of the choices, as it is spelled there; capital letters do not matter.

    Understood are the choice alone, `Answer: choice` and `{"answer": "choice"}`. Raises UnreadableReply.
    """
    answer = answer_of(text)
    holders, _ = _holders(answer, ANSWER_NAMES)
    values = [value for one in holders for value in one.named(ANSWER_NAMES)]
    if not holders:
        label = rf"\A[\s*_#>]*(?:(?:the|my|final) )*(?:{'|'.join(ANSWER_NAMES)})(?: is)?[\s*_]*[:=]?[\s*_]+"
        values = [re.sub(label, "", answer, count=1, flags=re.I)]
    known = {_folded(one): one for one in choices}
    found = {known.get(_folded(value)) if isinstance(value, str) else None for value in values}
    if len(found) != 1 or None in found:
        raise UnreadableReply(f"the reply must be one of {', '.join(choices)}, and nothing else")
    return str(found.pop())


def read_labelled(text: str, labels: Sequence[str], low: float, high: float) -> Scores:
    """One score for each label: lines such as `Prompt Compliance: 4`, or an object with these members.

    Each label has to be there, with one meaning. Raises UnreadableReply.
    """
    answer = answer_of(text)
    holders, outside = _holders(answer, {one.lower() for one in labels})
    rows = [_of_label(holders, answer, label, low, high) for label in labels]
    words = _reasoning(holders[0], outside) if holders else short(answer)
    return Scores(tuple(rows), words)


def read_listed(text: str, label: str, count: int, low: float, high: float) -> Scores:
    """So many scores behind a label on one line, such as `Final Score: 4, 5`. Raises UnreadableReply."""
    answer = answer_of(text)
    found = {_figures(rest, count, low, high) for rest in _behind(answer, label)}
    if len(found) != 1:
        raise UnreadableReply(
            f"the reply must have one line {label!r} with {_words(count)}, it has {len(found)}"
        )
    return Scores(found.pop(), short(answer))


def answer_of(text: str) -> str:
    """The answer alone, out of its fence. Raises UnreadableReply where there is none."""
    try:
        answer = answer_text(text) if may_reason(text) else text
    except ReplyError as error:
        raise UnreadableReply(str(error)) from error
    answer = _unfenced(answer)
    if not answer.strip():
        raise UnreadableReply("the reply is empty")
    if len(answer) > MAX_REPLY:
        raise UnreadableReply(f"the reply has {len(answer)} characters, at most {MAX_REPLY} are read")
    return _unquoted(answer)


def any_of(*readers: Callable[[str], T]) -> Callable[[str], T]:
    """The first of these readers that takes a reply, for prompts that judges answer in several forms.

    What none takes is unreadable for the first one's reason.
    """

    def read(text: str) -> T:
        faults = []
        for reader in readers:
            try:
                return reader(text)
            except UnreadableReply as error:
                faults.append(error)
        raise faults[0]

    return read


def may_reason(text: str) -> bool:
    """Whether anything but a plain JSON object is there, which most replies are."""
    stripped = text.strip()
    return not (stripped[:1] == "{" and stripped[-1:] == "}" and "<" not in text and "[/" not in text)


def _unfenced(answer: str) -> str:
    """What stands in the fence, where the whole answer is in one.

    Without a pattern over all of it: a judge that writes blanks without end must not cost hours.
    """
    stripped = answer.strip()
    if len(stripped) < 2 * len(_FENCE) or not (stripped.startswith(_FENCE) and stripped.endswith(_FENCE)):
        return answer
    inner = stripped[len(_FENCE) : -len(_FENCE)]
    language = _LANGUAGE.match(inner)
    return inner[language.end() if language else 0 :].rstrip()


def _unquoted(answer: str) -> str:
    """What a JSON string says, where the whole answer is one."""
    stripped = answer.strip()
    if len(stripped) > 2 and stripped[0] == stripped[-1] == '"':
        try:
            value = decoded(stripped)
        except ValueError:
            return answer
        return value if isinstance(value, str) and value.strip() else answer
    return answer


def _holders(answer: str, names: Collection[str]) -> tuple[list[Object], str]:
    objects, outside = objects_in(answer)
    if len(objects) == 1 and objects[0].named(names):
        return objects, outside
    return [one for value in objects for one in holders_of(value, names)], outside


def _bare(answer: str) -> Any:
    """What a reply without a score's object says: a list or a figure, and nothing else."""
    rest = _LABEL.sub("", answer, count=1).strip(_MARKUP).rstrip(".").strip(_MARKUP)
    if rest[:1] == "[":
        try:
            return decoded(rest)
        except ValueError as error:
            raise UnreadableReply(f"the list cannot be read: {str(error)[:200]}") from error
    if _FIGURES.fullmatch(rest) or _FIGURE.fullmatch(rest):
        return rest
    raise UnreadableReply("the reply holds no score in the form that was asked for")


def _figures(value: Any, count: int, low: float, high: float) -> tuple[float, ...]:
    """So many figures of a JSON value, or of a text that holds them."""
    if isinstance(value, str):
        value = _split(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    members = value if isinstance(value, list) else [value]
    figures = tuple(_figure(one, low, high) for one in members)
    if len(figures) != count:
        raise UnreadableReply(f"the reply holds {_words(len(figures))}, {_words(count)} must be there")
    return figures


def _split(text: str) -> Any:
    """The list, or the figures between commas, that a text is; the text itself where it is neither."""
    stripped = text.strip().strip(_MARKUP)
    if stripped[:1] == "[":
        try:
            return decoded(stripped)
        except ValueError as error:
            raise UnreadableReply(f"the list {stripped[:40]!r} cannot be read") from error
    return re.split(r"\s*,\s*", stripped) if _FIGURES.fullmatch(stripped) else stripped


def _figure(value: Any, low: float, high: float) -> float:
    """A number, or a text that is one. Raises UnreadableReply where it is none, or outside of its range."""
    if isinstance(value, str):
        found = _FIGURE.fullmatch(value.strip())
        if found is None or (found[2] and float(found[2]) != high):
            raise UnreadableReply(f"{value[:40]!r} is no score from {low:g} to {high:g}")
        value = float(found[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnreadableReply(f"a score must be a number, not {_named(value)}")
    if not (low <= value <= high and math.isfinite(value)):
        raise UnreadableReply(f"the score {str(value)[:20]} is outside of {low:g} to {high:g}")
    return float(value)


def _of_label(holders: Sequence[Object], answer: str, label: str, low: float, high: float) -> float:
    values: list[Any] = [value for one in holders for value in one.named({label.lower()})]
    found = {_figures(value, 1, low, high) for value in values or _behind(answer, label)}
    if len(found) != 1:
        raise UnreadableReply(f"the reply must give one score for {label!r}, it gives {len(found)}")
    return found.pop()[0]


def _behind(answer: str, label: str) -> list[str]:
    """What stands behind a label at the beginning of a line, without markup around it."""
    words = r"[ \t]+".join(re.escape(word) for word in label.split())
    line = re.compile(rf"^[ \t*_#>|\d.)-]*{words}[ \t*_]*[:=](.*)$", re.I | re.M)
    return [found[1].strip(_MARKUP).rstrip(".").strip(_MARKUP) for found in line.finditer(answer)]


def _reasoning(holder: Object, outside: str) -> str:
    return short(holder.text(REASON_NAMES) or outside)


def short(text: str) -> str:
    """A text in one line, as far as it is kept."""
    if "```" in text:
        text = text.replace("```json", " ").replace("```", " ")
    plain = " ".join(text.split())[:MAX_REASONING]
    return plain if plain.isascii() else plain.encode("utf-8", "replace").decode()


def _folded(text: str) -> str:
    return " ".join(text.strip(_MARKUP + ".!()[]").split()).casefold()


def _named(value: Any) -> str:
    return {"NoneType": "null", "Object": "an object", "list": "a list", "bool": "true or false"}.get(
        type(value).__name__, type(value).__name__
    )


def _words(count: int) -> str:
    return "one score" if count == 1 else f"{count} scores"
