"""How a judge's reply to a question of a definition is read.

| `reply` | the reply |
|---|---|
| `scores` | an object with `score` and `reasoning`, or the bare scores |
| `final` | words that end with `Final Score: 4`, or several with commas |
| `lines` | a line `Label: 4` for each score, whatever the labels |
| `choice` | one of the choices |

Belongs here: these four by name. Not here: the readers they are made of (`judges.replies`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from got_core.evaluate.judged.shape import Ask
from got_core.evaluate.judges.replies import (
    Scores,
    UnreadableReply,
    answer_of,
    any_of,
    read_choice,
    read_listed,
    read_scores,
    short,
)

Reader = Callable[[str], Scores]
FINAL = "Final Score"

_LINE = re.compile(
    r"^[ \t*_#>-]*[^\W\d][^:\n]{0,80}:[\s*_]*([-+]?\d+(?:\.\d+)?)"
    r"(?:[ \t]*(?:/|out of)[ \t]*(\d+))?[ \t*_.]*$",
    re.M,
)


def reader_of(ask: Ask) -> Reader:
    """What reads a reply to this question; it raises UnreadableReply."""
    count, low, high = len(ask.scores), ask.low, ask.high
    if ask.reply == "final":
        return lambda text: read_listed(text, FINAL, count, low, high)
    if ask.reply == "lines":
        return any_of(
            lambda text: read_lines(text, count, low, high), lambda text: read_scores(text, count, low, high)
        )
    if ask.reply == "choice":
        return lambda text: _chosen(text, ask.choices, low, high)
    return lambda text: read_scores(text, count, low, high)


def read_lines(text: str, count: int, low: float, high: float) -> Scores:
    """So many lines that end with a score behind a label, in the order in which they stand.

    Raises UnreadableReply.
    """
    answer = answer_of(text)
    lines = list(_LINE.finditer(answer))
    found = tuple(float(one[1]) for one in lines)
    if len(found) != count:
        raise UnreadableReply(
            f"the reply has {len(found)} lines with a label and a score, wanted are {count}"
        )
    if wrong := [one for one in found if not low <= one <= high]:
        raise UnreadableReply(f"the score {wrong[0]:g} is outside of {low:g} to {high:g}")
    if scales := [one[2] for one in lines if one[2] and float(one[2]) != high]:
        raise UnreadableReply(f"a score is out of {scales[0][:20]}, the highest there is, is {high:g}")
    return Scores(found, short(answer))


def _chosen(text: str, choices: Sequence[str], low: float, high: float) -> Scores:
    place = choices.index(read_choice(text, choices))
    return Scores((low + place * (high - low) / (len(choices) - 1),), short(text))
