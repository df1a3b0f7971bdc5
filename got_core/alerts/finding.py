"""What is wrong at a moment, and what of it is news against what was told before.

Belongs here: comparing two moments. Not here: finding what is wrong (`got_assets.line`), sending (`webhook`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FIRING, RESOLVED = "firing", "resolved"

Told = Mapping[str, Mapping[str, Any]]
"""What was told and is not over, by its key: `summary`, and `at`, when last told (seconds since 1970)."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong and stays so until somebody does something, or until it passes."""

    key: str
    """Which one it is: the same key at the next look is the same thing."""

    summary: str
    """One sentence that names what is wrong and where; no secret in it."""

    advice: str = ""
    """What to do."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent."""

    state: str
    """``firing`` or ``resolved``."""

    key: str
    summary: str
    advice: str = ""

    def document(self) -> dict[str, str]:
        """Plain JSON. `text` is what chat services show; the other fields are for programs."""
        mark = "FIRING" if self.state == FIRING else "resolved"
        text = f"[{mark}] {self.key}: {self.summary}"
        return {
            "text": f"{text}\n{self.advice}" if self.advice else text,
            "alert": self.key,
            "state": self.state,
            "summary": self.summary,
            "advice": self.advice,
        }


def news(
    told: Told, found: Iterable[Finding], now: float, repeat_seconds: float
) -> tuple[list[Message], dict[str, dict[str, Any]]]:
    """What to send, and what then was told.

    A finding is sent when it appears and again after ``repeat_seconds`` as long as it stays, and once when it
    is gone. That its summary has changed meanwhile (a number, say) is no news.
    """
    left: dict[str, dict[str, Any]] = {}
    messages = []
    for one in found:
        before = told.get(one.key)
        if before is None or now - float(before["at"]) >= repeat_seconds:
            messages.append(Message(state=FIRING, key=one.key, summary=one.summary, advice=one.advice))
            left[one.key] = {"summary": one.summary, "at": now}
        else:
            left[one.key] = dict(before)
    gone = (key for key in told if key not in left)
    messages += [Message(state=RESOLVED, key=key, summary=str(told[key]["summary"])) for key in gone]
    return messages, left
