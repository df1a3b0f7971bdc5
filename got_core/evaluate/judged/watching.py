"""The canary through a benchmark's own first question: whether the judge answers as it did at first.

Belongs here: which question the drawn pairs are put with, and what a score says of it. Not here: the pairs,
asking and comparing (`judges.canary`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from got_core.evaluate.judged.prompts import Prompt
from got_core.evaluate.judged.readers import reader_of
from got_core.evaluate.judged.shape import EDITED, SOURCE, Ask, Definition, columns_in
from got_core.evaluate.judges.call import Call, Shown
from got_core.evaluate.judges.canary import canary_check, last_canary
from got_core.evaluate.judges.canary_pairs import CanaryPair
from got_core.evaluate.judges.faults import JudgePaused
from got_core.evaluate.judges.judge import Judge

_KNOWN = {"instruction", "task", "id"}
"""Fields that a drawn pair has."""


def watched(definition: Definition, prompts: Mapping[str, Prompt]) -> Ask | None:
    """The first question that can be put about a drawn pair; None where all need more than that."""
    for ask in definition.asks:
        fields = columns_in([*prompts[ask.name].fill.values(), ask.wording.key])
        if EDITED in ask.shows and set(ask.shows) <= {SOURCE, EDITED} and set(fields) <= _KNOWN:
            return ask
    return None


def watch(definition: Definition, prompts: Mapping[str, Prompt], judge: Judge) -> dict[str, Any] | None:
    """What the canary found: asked now, if something was asked of this judge in this run, else what its last
    asking found. Plain data with a `note`; None where there is no question for it, or it was never asked."""
    ask = watched(definition, prompts)
    if ask is None:
        return None

    def put(pair: CanaryPair) -> Call:
        return _call(definition, ask, prompts[ask.name], pair)

    if not judge.requests:
        return last_canary(judge, put)
    try:
        return canary_check(judge, put, reader_of(ask), names=ask.scores)
    except JudgePaused as error:  # what was judged is kept, and counts
        return {"note": f"the canary was not asked: {error}"}


def _call(definition: Definition, ask: Ask, prompt: Prompt, pair: CanaryPair) -> Call:
    fields = {"instruction": pair.instruction, "task": next(iter(prompt.texts)) or "all", "id": pair.name}
    key = next(iter(prompt.texts)) if prompt.key else ""
    template, text = prompt.filled(key, fields)
    shown = {SOURCE: pair.source, EDITED: pair.edited}
    pictures = [shown[name] for name in ask.shows]
    parts: tuple[str | Shown, ...] = (*pictures, text) if ask.pictures_first else (text, *pictures)
    return Call(
        step=f"{definition.base} {ask.name}", template=template, parts=parts, max_tokens=ask.max_tokens
    )
