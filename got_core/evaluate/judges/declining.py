"""Refusals that a judge writes as an ordinary reply.

Belongs here: telling them from replies that are only badly formed, which are handed back. Not here: refusals
that the server marks as such (`annotate.envelope`).
"""

from __future__ import annotations

import re

from got_core.annotate.reasoning import ReplyError, answer_text
from got_core.evaluate.judges.replies import may_reason, short

_APOSTROPHES = str.maketrans({chr(0x2019): "'", chr(0x2013): "-", chr(0x2014): "-"})
_SORRY = (
    r"(?:i(?:'m| am) (?:very |so |really |truly )?sorry|(?:my )?(?:sincere )?apologies|i apologi[sz]e|sorry|"
    r"unfortunately|as an ai\b[^.,;\n]{0,60})"
)
_NOT = r"(?:can't|cannot|can not|could not|won't|will not|(?:am|'m) (?:not able|unable) to)"
_DECLINE = (
    r"(?:(?:am|'m) not (?:comfortable|allowed|permitted)\b|"
    r"(?:must |have to )?(?:respectfully )?(?:decline|refuse)\b)"
)
_DO = (
    r"(?:be able to )?(?:assist|help|provide|evaluate|rate|score|judge|assess|comply|process|analy[sz]e|"
    r"complete|fulfil+|engage|answer|give|support|participate|discuss|identify|continue|respond|offer|"
    r"perform|access|do)\b"
)
_REFUSALS = (
    re.compile(
        rf"\A(?:{_SORRY}[\s,.;:!-]{{0,9}}(?:but |however,? )?)?(?:i|we)\s?(?:{_NOT}\s+{_DO}|{_DECLINE})", re.I
    ),
    re.compile(rf"\A{_SORRY}[^\n{{]{{0,200}}\b(?:polic(?:y|ies)|guidelines?|request)\b", re.I),
    re.compile(r"\A(?:对不起|很?抱歉)?\W{0,9}(?:但)?我(?:无法|不能|没办法)"),
)
_MOST = 300
_BEGINNING = 1000  # characters in which a refusal has to begin
_NO_WORD = re.compile(r"\A\W+")


def refusal_in(text: str) -> str | None:
    """The words in which a judge declines, at most 300 characters; None where it does not.

    For replies that no reader takes. Only words at its beginning count: what a judge says of a picture is no
    refusal, and JSON is none.
    """
    try:
        answer = answer_text(text) if may_reason(text) else text
    except ReplyError:
        return None
    if "{" in answer:
        return None
    plain = _NO_WORD.sub("", answer[:_BEGINNING], count=1).translate(_APOSTROPHES)
    if not any(refusal.match(plain) for refusal in _REFUSALS):
        return None
    return short(answer)[:_MOST]
