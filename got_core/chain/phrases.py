"""Which words before a box name the object.

Belongs here: the noun phrase guess for chains whose phrases are not marked. Not here: class or colour of the
object named.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")  # noqa: RUF001  # both apostrophes occur in captions
_CLAUSE_END = re.compile(r"[.,;:!?\n]")
_BEFORE_BOX = " \t\r\n:,;.([\"'“”"
_STARTERS = re.compile(
    r"an?|the|this|that|these|those|his|her|its|their|one|two|three|four|five|six|seven|eight|nine|ten"
    r"|another|several|some|many|each|every"
)
_PRONOUNS = re.compile(r"it|them")
_VERBS = re.compile(r"is|are|was|were|has|have|sits?|stands?|located|positioned|placed")
_STOPS = re.compile(
    r"and|or|with|of|on|in|at|to|by|from|near|under|over|above|below|behind|beside|between|into|onto|next"
    r"|left|right|while|where|there"
)
_TRAILING = re.compile(rf"{_VERBS.pattern}|to|at|on|in|by|from|into|onto|over|near")


def phrase_span(text: str) -> tuple[int, int]:
    """Start and end of the noun phrase that ends `text` (the words between the previous box and this one).

    The last clause's words from its last article or number word on; without one, the words after its last
    preposition or conjunction. List numbers and punctuation before the box are left out. Empty span (n, n):
    nothing names the box.
    """
    nothing = (len(text), len(text))
    end = _without_tail(text)
    start = max((m.end() for m in _CLAUSE_END.finditer(text, 0, end)), default=0)
    words = list(_WORD.finditer(text, start, end))
    while words and _TRAILING.fullmatch(words[-1].group().lower()):
        words.pop()
    first = _first_word([w.group().lower() for w in words])
    return (words[first].start(), words[-1].end()) if first < len(words) else nothing


def _without_tail(text: str) -> int:
    """Where the text ends once punctuation and list numbers ("3. ") before the box are taken off."""
    end = len(text.rstrip(_BEFORE_BOX))
    while text[end : end + 1] == "." and text[:end][-1:].isdigit():
        words = text[:end].rstrip("0123456789")
        if words and not words[-1].isspace():
            break
        end = len(words.rstrip(_BEFORE_BOX))
    return end


def _first_word(words: list[str]) -> int:
    """Index of the word where the last noun phrase begins; len(words) where there is none."""
    if words and _PRONOUNS.fullmatch(words[-1]):
        return len(words) - 1
    clause = _after_last(_VERBS, words)
    starters = [k for k in range(clause, len(words)) if _STARTERS.fullmatch(words[k])]
    return starters[-1] if starters else max(clause, _after_last(_STOPS, words))


def _after_last(kind: re.Pattern[str], words: list[str]) -> int:
    return max((k + 1 for k, word in enumerate(words) if kind.fullmatch(word)), default=0)
