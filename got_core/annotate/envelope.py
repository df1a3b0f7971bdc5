"""A server's response as the reply that it holds, or as what went wrong.

Belongs here: status codes, the fields of a chat completion and their variants. Not here: sending (`client`),
what the reply says (`replies`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from got_core.annotate.annotator import AnnotationError, AnnotationPaused
from got_core.annotate.refusals import refused_setting, sentence_of
from got_core.annotate.replies import plain_text

REFUSED = "refused"
"""Reason of a row whose request the server does not take, or the model does not want to answer."""
MAX_KEPT = 2000
"""Characters of a response that nobody can use."""
_WRONG_SETTINGS = {
    401: "the API key is refused",
    402: "the account has no credit",
    403: "the API key is refused",
    404: "no such URL or model",
    405: "no such URL",
}
_WITHOUT_DETAIL = (401, 403)  # servers repeat the key in their sentence
_RETRY_LATER = {408, 409, 425, 429}
_CUT_OFF = ("length", "max_tokens", "model_length")
_FILTERED = ("content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii")
_POLICY = re.compile(rb"flagged|moderation|content.polic|safety", re.I)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the server answered; token counts are None where it does not give them."""

    text: str
    """The reply; reasoning that came in a field of its own, and no answer, stands behind an opening mark."""
    truncated: bool = False
    """Whether the reply ended at the limit of its length."""
    refused: str | None = None
    """Why model or server will not answer; None: they did."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    model: str | None = None
    """What the server calls the model that replied; None where it does not say."""
    logprobs: Any = None
    """Log-probabilities of the reply's tokens as the server gives them; None where it gives none."""


class TransientError(Exception):
    """A request that may go well later. `billed`: the server may have done (and charged) the work."""

    def __init__(self, message: str, billed: bool, after: float = 0.0, busy: bool = False) -> None:
        super().__init__(message)
        self.billed, self.after, self.busy = billed, after, busy


class RefusedError(AnnotationError):
    """A request that the server does not take; whose fault that is, `canary` finds out."""


class RefusedSetting(Exception):
    """A request that the server does not take because of a member that every request has."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


def completion_of(status: int, retry_after: float | None, data: bytes, sent: Collection[str]) -> Completion:
    """What the response to a body with the members `sent` says; `retry_after` in seconds.

    Raises TransientError, RefusedError, RefusedSetting or AnnotationPaused where it is no reply.
    """
    if status != 200:
        raise _failure(status, retry_after, data, sent)
    try:
        reply = json.loads(data)
        error = _error_of(reply)
        if error is None:
            return _completion(reply)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as fault:
        raise TransientError(f"no chat completion ({type(fault).__name__})", billed=True) from fault
    code = error.get("code") if isinstance(error, dict) else None
    if not (isinstance(code, int | str) and str(code).isdecimal() and 300 <= int(code) < 600):
        raise TransientError(f"an error instead of a reply: {sentence_of(data)}", billed=True)
    raise _failure(int(code), retry_after, json.dumps({"error": error}).encode(), sent)


def _failure(status: int, retry_after: float | None, data: bytes, sent: Collection[str]) -> Exception:
    code = f"HTTP {status}"
    if 300 <= status < 400:
        return AnnotationPaused(f"{code}: redirects are not followed; set the annotator's final URL")
    if status == 403 and "logprobs" in sent and b"logprobs" in data:  # OpenAI, for models that have none
        return RefusedSetting("logprobs", f"{code}: the server refuses 'logprobs'")
    flagged = status == 403 and _POLICY.search(data) is not None
    if status in _WRONG_SETTINGS and not flagged:
        detail = "" if status in _WITHOUT_DETAIL else f" ({sentence_of(data)})"
        return AnnotationPaused(f"{code}: {_WRONG_SETTINGS[status]}{detail}; check the annotator's settings")
    if status in _RETRY_LATER or status >= 500:
        return TransientError(code, billed=False, after=retry_after or 0.0, busy=status == 429)
    if (setting := refused_setting(data, sent)) is not None:
        return RefusedSetting(setting, f"{code}: the server refuses {setting!r}: {sentence_of(data)}")
    raw = data[:MAX_KEPT].decode("utf-8", "replace")
    return RefusedError(REFUSED, f"{code}: {' '.join(raw.split())[:300]}", raw)


def _error_of(reply: Any) -> Any:
    """The error that came with status 200; None where there is none."""
    if isinstance(reply, list):  # Gemini
        reply = reply[0]
    if reply.get("object") == "error":
        return reply
    choices = reply.get("choices") or [{}]
    return reply.get("error") or choices[0].get("error")


def _completion(reply: Any) -> Completion:
    choice = reply["choices"][0]
    message, finish = choice["message"], str(choice.get("finish_reason")).lower().replace("-", "_")
    if finish == "error":
        raise ValueError("the server broke off")
    text, refusal = _text_of(message.get("content"))
    refusal = refusal or plain_text(message.get("refusal"))
    if finish in _FILTERED:
        refusal = refusal or f"the server's filter ended the reply ({finish})"
    usage = reply.get("usage") or {}
    thought = plain_text(message.get("reasoning_content")) or plain_text(message.get("reasoning"))
    return Completion(
        text=text if text.strip() or not thought else f"<think>{thought}",
        truncated=finish in _CUT_OFF,
        refused=refusal[:300] or None,
        tokens_in=_count(usage.get("prompt_tokens")),
        tokens_out=_count(usage.get("completion_tokens")),
        model=plain_text(reply.get("model")) or None,
        logprobs=choice.get("logprobs"),
    )


def _text_of(content: Any) -> tuple[str, str]:
    """Text and refusal of a message's content: a text, parts, or nothing."""
    if not isinstance(content, list):
        return plain_text(content), ""
    texts, refusals = [], []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"):
            texts.append(plain_text(part.get("text")))
        elif isinstance(part, dict) and part.get("type") == "refusal":
            refusals.append(plain_text(part.get("refusal")))
    return plain_text("".join(texts)), " ".join(refusals)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 10**9 else None
