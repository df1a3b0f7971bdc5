"""What a server that refuses a request finds wrong: a setting that all requests have, or this request alone.

Belongs here: the wordings of OpenAI, Azure, vLLM, llama.cpp, LiteLLM, Mistral, Gemini and their like. Not
here: what follows from it (`client`, `envelope`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

_NAMES = {
    "max_tokens": r"max_tokens",
    "max_completion_tokens": r"max_completion_tokens",
    "temperature": None,
    "seed": None,
    "response_format": r"response_format|json[_ ]schema|structured[_ ]outputs?|guided_json|parse grammar",
    "top_logprobs": r"top_logprobs",
    "logprobs": r"log[_ -]?prob(?:abilitie)?s",
}
"""What is sent beside messages and model, and how servers call it; None: a word of everyday language too."""
_NAMED = (
    r"[\"'`\[]{0}\b|^{0}:|"
    r"\b(?:arguments?|parameters?|params?|fields?|names?|propert(?:y|ies))\b[^.\n]{{0,40}}\b{0}\b"
)
_FIELDS = ("param", "parameter", "loc", "field")
_ECHOES = ("input", "ctx", "url", "body", "request")  # of FastAPI's errors: what was sent, not what is wrong
_OF_REQUEST = re.compile(
    r"context (?:length|window|size)|max_model_len|too many tokens|input tokens|"
    r"prompt (?:is )?too (?:long|large)|"
    r"(?:image|picture|file|payload|request)\w* (?:\w+ )?too (?:large|big|small)|"
    r"content[ _]?(?:policy|filter|manage)|safety|moderation|flagged",
    re.I,
)
_REFUSES = re.compile(
    r"unsupported|not support|n't support|only (?:the default|supported)|unrecogni[sz]ed|unknown|unexpected|"
    r"not permitted|not allowed|forbidden|invalid|not valid|cannot find field|not implemented|not available|"
    r"unavailable|deprecated|must be|should be|failed",
    re.I,
)
_NO_MODEL = re.compile(
    r"model_not_found|(?:invalid|unknown|no such) model|"
    r"\bmodel\b[^.\n]{0,100}(?:not found|not exist|not a valid|not available|not loaded)|"
    r"not a valid model",
    re.I,
)
_NO_PICTURES = re.compile(
    r"not a (?:multi-?modal|vision)|"
    r"(?:not|n't) support (?:vision|multi-?modal|"
    r"(?:images?|pictures?)(?: inputs?| content)?(?=[.,;:)]|\s*$))|"
    r"at most 0 image|unknown variant `?image_url|image_url[^.\n]{0,60}only supported|mmproj|"
    r"image input[^.\n]{0,40}not supported|no endpoints found that support image",
    re.I,
)
_ENGINE = re.compile(
    r"(?:EngineDead|Actor\w*|Ray\w*|Connection\w*|Timeout|OS|Memory|OutOfMemory)Error\b|"
    r"\w+(?:Error|Exception)\b.*(?:out of memory|\bCUDA\b|\bNCCL\b|no space left|cannot allocate)",
    re.I | re.S,
)
_LOGPROBS = re.compile(r"log[_ -]?prob", re.I)
_HOW_MANY = re.compile(r"\bmax|less than|at most|between|exceed|range|<=|top_logprobs", re.I)
"""Of a refusal that speaks of log-probabilities: it is about how many."""
_HELP = {
    "max_tokens": "GOT_ANNOTATOR_LENGTH_NAME and GOT_ANNOTATOR_THINKING_TOKENS say what is sent",
    "max_completion_tokens": "GOT_ANNOTATOR_LENGTH_NAME and GOT_ANNOTATOR_THINKING_TOKENS say what is sent",
    "temperature": "set GOT_ANNOTATOR_TEMPERATURE to what it takes, or to none to send none",
    "seed": "set GOT_ANNOTATOR_SEED=none to send none",
    "response_format": "set GOT_ANNOTATOR_SEND_SCHEMA=false to send no schema",
    "top_logprobs": "ask for fewer",
    "logprobs": "take a server and a model that give log-probabilities",
    "model": "set GOT_ANNOTATOR_VISION_MODEL and GOT_ANNOTATOR_TEXT_MODEL to names that it knows",
    "image_url": "set GOT_ANNOTATOR_VISION_MODEL to a model that takes pictures",
}


def refused_setting(data: bytes, sent: Collection[str]) -> str | None:
    """The member of the body, of those `sent`, that a response refuses; None where it is about one request.

    `model` stands for a model that is not there, `image_url` for one that takes no pictures.
    """
    texts = list(_error_texts(_parsed(data)))
    joined = "\n".join(text for _, text in texts)
    if _NO_PICTURES.search(joined):
        return "image_url"
    if _OF_REQUEST.search(joined):
        return None
    if "logprobs" in sent and _LOGPROBS.search(joined):
        return "top_logprobs" if _HOW_MANY.search(joined) else "logprobs"
    for key, text in texts:
        if key in _FIELDS and (name := _field_of(text, sent)) is not None:
            return name
    if _NO_MODEL.search(joined):
        return "model"
    if any(key in _FIELDS and "messages" in text for key, text in texts) or not _REFUSES.search(joined):
        return None
    return next((name for name in _NAMES if name in sent and _named(name, joined)), None)


def sentence_of(data: bytes) -> str:
    """What a response says in words, at most 300 characters."""
    texts = [(key, text) for key, text in _error_texts(_parsed(data)) if key not in _FIELDS]
    words = next((text for key, text in reversed(texts) if key in ("raw", "msg", "message", "detail")), None)
    text = words or (texts[0][1] if texts else data.decode("utf-8", "replace"))
    return " ".join(text.split())[:300]


def is_engine_fault(text: str) -> bool:
    """Whether an engine's error (its type, a colon and what it says) is about itself, not about a request."""
    return _ENGINE.match(text) is not None


def help_with(setting: str) -> str:
    """What to do about a refused setting."""
    return _HELP[setting]


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")


def _error_texts(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every text of an error with the name of its member; lists of locations as one text."""
    if key in _ECHOES or depth > 8:
        return
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _error_texts(member, name, depth + 1)
    elif isinstance(value, list) and key == "loc":
        yield key, ".".join(map(str, value))
    elif isinstance(value, list):
        for member in value:
            yield from _error_texts(member, key, depth + 1)
    elif isinstance(value, str):
        inner = _parsed(value.encode("utf-8", "replace")) if value[:1] in ("{", "[") else value
        if isinstance(inner, str):
            yield key, inner
        else:
            yield from _error_texts(inner, key, depth + 1)


def _field_of(text: str, sent: Collection[str]) -> str | None:
    """The setting that a location such as `response_format.type` or `body.seed` names."""
    parts = re.split(r"[^\w]+", text.lower())
    if "messages" in parts:
        return None
    return next((name for name in ("model", *_NAMES) if name in parts and name in sent), None)


def _named(name: str, text: str) -> bool:
    """Whether a text speaks of a parameter by this name, rather than of what the word means."""
    spellings = _NAMES[name] or _NAMED.format(name)
    return re.search(spellings, text, re.I | re.M) is not None
