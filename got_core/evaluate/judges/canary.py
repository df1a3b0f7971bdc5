"""The canary: whether a judge still answers as it did at first, from drawn pairs that never change.

The pairs go through a benchmark's own prompt. The first answers of a judge to them are the reference; each
later asking is compared with it, pair by pair. All answers are in the judge's ledger like any other, and what
came out of each asking lies beside it.

Belongs here: asking, comparing, and the sentence about a judge that has moved. Not here: the pairs
(`canary_pairs`), or when to ask: once in a judging in which something new is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from got_core.evaluate.judges.asking import ledger_scope
from got_core.evaluate.judges.call import SCORED, UNANSWERED, Call, Verdict
from got_core.evaluate.judges.canary_pairs import CanaryPair, canary_pairs
from got_core.evaluate.judges.judge import Judge
from got_core.evaluate.judges.questions import Read
from got_core.evaluate.protocol import digest_of

LEAST = 0.1
"""Points by which a mean must have moved to be spoken of."""

CONFIDENCE = 0.99
"""Of the intervals: Student's t over pairs. A mean has moved where its interval leaves out 0."""

Put = Callable[[CanaryPair], Call]
"""A pair as a benchmark's call."""


def canary_check(
    judge: Judge, put: Put, read: Read, *, names: Sequence[str] = (), asked: str | None = None
) -> dict[str, Any]:
    """Ask a judge about all pairs, and compare its scores with its first ones.

    Args:
        judge: the judge.
        put: the prompt to watch.
        read: its reader, whose values are figures or `replies.Scores`.
        names: of the scores, in order; numbers from 1 where there are none.
        asked: when (ISO 8601 in UTC); now, if not given.

    Returns plain data: `moved` (each score's `mean`, `low`, `high` in points, and `n` pairs), `overall` (the
    mean over all scores), `n` (pairs that have scores both times), `lost` (pairs that had scores at first and
    have none now), `reference` (whether these are the first answers), `first` (when those were given),
    `right` and `wrong` (means of the least score of pairs that deserve the best, and of the others), `states`
    (how many pairs have which), and `note`: a sentence where something has moved, else None. Raises what
    `Judge.ask` raises.
    """
    pairs = canary_pairs()
    calls = [_named(put(pair)) for pair in pairs]
    known = judge.storage.list(f"{_folder(judge, calls)}/")
    there = sum(judge.is_answered(call) for call in calls)
    begun = there < (len(calls) / 2 if known else len(calls))  # a pair that never gets an answer is left out
    reference = _ask(judge, calls, read, None) if begun else _kept(judge, calls, read)
    asked = asked or datetime.now(UTC).isoformat(timespec="microseconds")
    now = reference if begun else _ask(judge, calls, read, asked)
    found = _compared(reference, now, names)
    result = {
        "step": calls[0].step,
        "prompt": calls[0].prompt,
        "judge": judge.config.model,
        "revision": judge.config.revision,
        "reference": begun,
        "first": min((one.asked for one in reference if one.asked), default=None),
        "asked": asked,
        "pairs": len(pairs),
        **found,
        **_told_apart(pairs, now),
        "states": dict(Counter(one.state for one in now)),
    }
    result["note"] = None if begun and result["n"] else _note(result)
    judge.storage.write_json(f"{_folder(judge, calls)}/{asked.replace(':', '')}.json", result)
    return result


def last_canary(judge: Judge, put: Put) -> dict[str, Any] | None:
    """What the last asking found; None where there was none. Nothing is asked."""
    folder = _folder(judge, [_named(put(pair)) for pair in canary_pairs()])
    names = sorted(judge.storage.list(f"{folder}/"))
    return judge.storage.read_json(names[-1]) if names else None


def _folder(judge: Judge, calls: Sequence[Call]) -> str:
    """One for each judge, and each way to ask it."""
    keys = digest_of([judge.key(call) for call in calls])
    return f"{judge.prefix}/canary/{ledger_scope(judge.config)}/{keys}"


def _named(call: Call) -> Call:
    return Call(
        step=f"{call.step} canary", template=call.template, parts=call.parts, max_tokens=call.max_tokens
    )


def _ask(judge: Judge, calls: Sequence[Call], read: Read, asked: str | None) -> list[Verdict]:
    found = dict(judge.each(calls, read, asked=asked))
    return [found[index] for index in range(len(calls))]


def _kept(judge: Judge, calls: Sequence[Call], read: Read) -> list[Verdict]:
    nothing = Verdict(state=UNANSWERED, reason="no answer at first")
    return [judge.kept(call, read) or nothing for call in calls]


def _figures(verdict: Verdict) -> tuple[float, ...] | None:
    if verdict.state != SCORED:
        return None
    value = verdict.value
    return tuple(value.values) if hasattr(value, "values") else (float(value),)


def _compared(reference: Sequence[Verdict], now: Sequence[Verdict], names: Sequence[str]) -> dict[str, Any]:
    lost = sum(one.state == SCORED != two.state for one, two in zip(reference, now, strict=True))
    both = [(_figures(one), _figures(two)) for one, two in zip(reference, now, strict=True)]
    kept = [(one, two) for one, two in both if one is not None and two is not None]
    if not kept:
        return {"n": 0, "lost": lost, "moved": {}, "overall": None}
    differences = np.array([two for _, two in kept]) - np.array([one for one, _ in kept])
    labels = list(names) or [str(number) for number in range(1, differences.shape[1] + 1)]
    moved = {name: _mean(differences[:, k]) for k, name in enumerate(labels)}
    return {"n": len(kept), "lost": lost, "moved": moved, "overall": _mean(differences.mean(axis=1))}


def _mean(differences: np.ndarray) -> dict[str, Any]:
    """The mean of some differences with its interval; they are pairs, so none is needed twice."""
    from scipy.special import stdtrit

    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return {"mean": mean, "low": None, "high": None, "n": n}
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * float(differences.std(ddof=1)) / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def _told_apart(pairs: Sequence[CanaryPair], now: Sequence[Verdict]) -> dict[str, float | None]:
    """What the judge makes of right edits and of wrong ones: the least of each pair's scores, on average."""
    least: dict[bool, list[float]] = {True: [], False: []}
    for pair, verdict in zip(pairs, now, strict=True):
        if (figures := _figures(verdict)) is not None:
            least[pair.right].append(min(figures))
    return {
        name: float(np.mean(least[right])) if least[right] else None
        for name, right in (("right", True), ("wrong", False))
    }


def _has_moved(figure: dict[str, Any]) -> bool:
    if figure["low"] is None or abs(figure["mean"]) < LEAST:
        return False
    return figure["low"] > 0 or figure["high"] < 0


def _note(result: dict[str, Any]) -> str | None:
    """What has moved, the mean over all scores first; None where nothing has."""
    if not result["n"] and not result["lost"]:
        return "the canary says nothing: the judge has given none of its pairs a score"
    lost = result["lost"]
    left_out = f", {lost} of {result['pairs']} pairs have no scores any more" if lost else ""
    figures = [one for one in (result["overall"], *result["moved"].values()) if one and _has_moved(one)]
    if not figures:
        return f"canary moved{left_out}" if left_out else None
    each = ", ".join(f"{name} {_signed(one['mean'])}" for name, one in result["moved"].items())
    first = figures[0]
    return (
        f"canary moved by {_signed(first['mean'])} ({each}; 99 % interval {_signed(first['low'])} to "
        f"{_signed(first['high'])}, {result['n']} pairs, against {result['first']}){left_out}"
    )


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"
