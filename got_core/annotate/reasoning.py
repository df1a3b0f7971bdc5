"""The answer of a reply, without the reasoning that the model wrote before it.

Belongs here: where reasoning begins and ends, in the spellings of published models. Not here: what the answer
says (`replies`).

The rule: reasoning stands between an opening and a closing mark. Text before a closing mark that nothing
opened is reasoning too, since many chat templates put the opening mark into the prompt. Exactly one piece of
text may be left outside: none means that the reply was cut off, or broke off, before its answer; several
cannot be told apart. A mark in quotation marks is only mentioned.
"""

from __future__ import annotations

import re


class ReplyError(ValueError):
    """A reply that cannot be used; the message says why, for the model to read."""


# <think>, <thinking>, <thought>, <reasoning> and their like, with or without a namespace: <seed:think>.
_NAME = (
    r"(?:[\w-]{1,20}[:|_])?"
    r"(?:think(?:ing)?(?:_fast(?:er)?)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis)"
)
_CHANNEL = r"(?:<\|start\|>assistant)?<\|channel\|>{}(?:(?!<\|message\|>).){{0,80}}<\|message\|>"  # gpt-oss
_CLOSING = "|".join([
    rf"<\|?\s?/\s?{_NAME}\s?\|?>",
    rf"<{_NAME}\s?/>",  # empty
    r"\[/THINK\]",  # Magistral
    r"◁/think▷",  # Kimi-VL
    r"<\|(?:end_of_thought|end_thinking|inner_suffix)\|>",  # Sky-T1, Command A, Apertus
    r"<channel\|>",  # Gemma
    r"\[unused17\]",  # Pangu
    _CHANNEL.format(r"\s?final\b"),
])  # fmt: skip
_OPENING = "|".join([
    rf"<\|?\s?{_NAME}\s?\|?>",
    r"\[THINK\]",
    r"◁think▷",
    r"<\|(?:begin_of_thought|start_thinking|inner_prefix)\|>",
    r"<\|channel>",
    r"\[unused16\]",
    _CHANNEL.format(r"\s?\w+"),
])  # fmt: skip
_MARK = re.compile(rf"(?P<closing>{_CLOSING})|{_OPENING}", re.I | re.DOTALL)
_IN_WORDS = (
    # Granite, HyperCLOVA X, gpt-oss behind a server that drops special tokens, Open WebUI, and Markdown.
    (r"\s*here(?:'s| is) my thought process:", r"here(?:'s| is) my response:"),
    (r"\s*/think\n", r"<\|im_end\|>\s*<\|im_start\|>assistant"),
    (r"\s*analysis(?=(?-i:[A-Z]))", r"assistantfinal"),
    (r"\s*<details type=\"reasoning\"[^>]{0,80}>", r"</details>"),
    (r"\s*```(?:think(?:ing)?|thoughts?|reasoning)[ \t]*\n", r"\n```[ \t]*(?:\n|\Z)"),
)
"""Openings that count only where a reply begins with them, and their closings."""
_TAG = r"(?:<{0}(?:answer|response)>|<\|{1}_(?:of_)?(?:box|solution|response)\|>)"
_BEFORE = re.compile(_TAG.format("", "(?:begin|start)"), re.I)
_AFTER = re.compile(
    _TAG.format("/", "end") + r"|<\|(?:return|end|im_end|eot_id|eom|eot|endoftext)\|>|<end_of_turn>|</s>",
    re.I,
)
"""Marks around an answer, and ends of a turn that servers let through."""
_MARKS = 4  # of those, at most
_OPENING_QUOTES = "“‘«「"  # noqa: RUF001
_QUOTED = tuple("\"'`“”‘’«»「」")  # noqa: RUF001


def answer_text(reply: str) -> str:
    """The answer alone: what is left of a reply without reasoning, answer tags and end-of-turn tokens.

    Raises ReplyError where there is none, or more than one.
    """
    pieces = [piece for piece in _outside(_unended(_marked(reply))) if piece.strip()]
    if len(pieces) > 1:
        raise ReplyError("the reply goes back to reasoning within its answer: answer in one piece")
    answer = pieces[0] if pieces else ""
    for _ in range(_MARKS):
        if (before := _BEFORE.match(answer.lstrip())) is None:
            break
        answer = _unended(answer.lstrip()[before.end() :])
    return answer


def _unended(text: str) -> str:
    """The text without the marks at its end."""
    for _ in range(_MARKS):
        kept = text.rstrip()
        last = next((mark for mark in _AFTER.finditer(kept, len(kept) - 24) if mark.end() == len(kept)), None)
        if last is None:
            break
        text = kept[: last.start()]
    return text


def _marked(reply: str) -> str:
    """The reply with reasoning that is announced in words between marks."""
    for opening, closing in _IN_WORDS:
        if begin := re.match(opening, reply, re.I):
            rest = re.sub(closing, "</think>", reply[begin.end() :], count=1, flags=re.I)
            return f"<think>{rest}"
    return reply


def _outside(text: str) -> list[str]:
    """The pieces outside of reasoning, in order. Raises ReplyError where reasoning does not end."""
    pieces: list[str] = []
    end, thinking, thought = 0, False, False
    for mark in _MARK.finditer(text):
        if _mentioned(text, mark):
            continue
        if mark["closing"]:
            pieces = pieces if thinking else []
            end, thinking, thought = mark.end(), False, True
        elif not thinking:
            pieces.append(text[end : mark.start()])
            thinking = True
    pieces.append("" if thinking else text[end:])
    if thinking or (thought and not any(piece.strip() for piece in pieces)):
        raise ReplyError("the reply is reasoning without an answer: think less, and then answer")
    return pieces


def _mentioned(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark stands in quotation marks of its own."""
    before, after = text[max(mark.start() - 2, 0) : mark.start()], text[mark.end() : mark.end() + 1]
    if before[-1:] not in _QUOTED or after not in _QUOTED:
        return False
    return len(before) == 1 or before[0] in " \t\n([{:," or before[-1] in _OPENING_QUOTES
