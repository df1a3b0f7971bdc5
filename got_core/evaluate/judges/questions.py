"""A call to a judge as a question of the ledger, and as a request to the server.

Belongs here: what an answer depends on, and what is sent, corrections of earlier replies included. Not here:
sending (`asking`), or which attempt is due (`judge`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from got_core.annotate.annotator import AnnotationError
from got_core.annotate.envelope import Completion
from got_core.annotate.ledger import Question
from got_core.annotate.pictures import image_tokens
from got_core.annotate.prompt_files import Prompt
from got_core.annotate.replies import MAX_REPLY, stored_text
from got_core.annotate.request import Request, correction_messages
from got_core.annotate.usage import Usage
from got_core.evaluate.judges.asking import Asking
from got_core.evaluate.judges.call import RECODED, Call, data_url
from got_core.evaluate.judges.config import JudgeConfig
from got_core.evaluate.judges.declining import refusal_in
from got_core.evaluate.judges.json_members import UnreadableReply
from got_core.evaluate.judges.kept import Answered, Kept, kept_of

if TYPE_CHECKING:
    from got_core.annotate.client import Tries

REFUSED_IN_WORDS = "refused_in_words"
"""Reason of a reply that declines in running text."""

Read = Callable[[str], Any]
"""Makes a value of a reply. Raises UnreadableReply."""

_TOO_LONG = "the reply is longer than allowed: be brief"
_POLICY = re.compile(r"flagged|moderation|content.?(?:policy|filter|manag)|safety|responsible.?ai", re.I)

_Sampling = tuple[tuple[str, float | int | str | None], ...]


def question_of(config: JudgeConfig, call: Call, attempt: int, asked: str | None = None) -> Question:
    """What the ledger knows a reply by. `asked`: that of a call asked anew, as of that time."""
    texts = tuple(("text", one) if isinstance(one, str) else ("picture", one.sha256) for one in call.parts)
    return Question(
        step=call.step,
        prompt=call.prompt,
        texts=texts,
        image=" ".join(call.pictures) or None,
        model=config.model,
        revision=config.revision,
        sampling=_sampling(config.temperature, call.max_tokens + config.thinking_tokens, attempt, asked),
    )


def call_key(config: JudgeConfig, call: Call, attempt: int, asked: str | None = None) -> str:
    """`question_of(...).key`, from the same JSON put together by hand: many are looked up."""
    texts, pictures = [], []
    for part in call.parts:
        if isinstance(part, str):
            texts.append(f'["text", {_quoted(part)}]')
        else:
            pictures.append(part.sha256)
            texts.append(f'["picture", {_quoted(part.sha256)}]')
    image = _quoted(" ".join(pictures)) if pictures else "null"
    length = call.max_tokens + config.thinking_tokens
    end = _end(config.model, config.revision, config.temperature, length, attempt, asked)
    text = f'["{call.prompt}", [{", ".join(texts)}], {image}, {end}'
    return hashlib.sha256(text.encode()).hexdigest()[:40]


_quoted = json.encoder.encode_basestring_ascii  # what json.dumps makes of a text


@lru_cache(64)
def _end(
    model: str, revision: str, temperature: float | None, length: int, attempt: int, asked: str | None
) -> str:
    """What is the same for all calls of a step."""
    return json.dumps([model, revision, _sampling(temperature, length, attempt, asked)])[1:]


@lru_cache(64)
def _sampling(temperature: float | None, length: int, attempt: int, asked: str | None) -> _Sampling:
    again: _Sampling = (("attempt", attempt),) if attempt > 1 else ()
    anew: _Sampling = (("asked", asked),) if asked else ()
    return (("picture", RECODED), ("temperature", temperature), ("length", length), *again, *anew)


def request_of(
    asking: Asking, question: Question, call: Call, before: Sequence[Answered], read: Read, tries: Tries
) -> Request:
    """The request for the next reply to a call, behind those that could not be read."""
    config, server = asking.config, asking.server
    content: list[dict[str, Any]] = []
    tokens_in = 128
    for part in call.parts:
        if isinstance(part, str):
            content.append({"type": "text", "text": part})
            tokens_in += len(part.encode())
        else:
            image = part.image()
            content.append({"type": "image_url", "image_url": {"url": data_url(image)}})
            tokens_in += image_tokens(*image.size, server)
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    for one in before:
        messages += correction_messages(one.kept.reply, _fault_of(one.kept, read))
    tokens_in += len(json.dumps(messages[1:]))
    length = call.max_tokens + config.thinking_tokens
    body: dict[str, Any] = {
        "model": config.model,
        "messages": messages,
        config.length_name or "max_tokens": length,
    }
    if config.temperature is not None:
        body["temperature"] = config.temperature
    return Request(
        question=question,
        prompt=Prompt(question.step, call.template, None),
        url=server.endpoint(vision=bool(call.pictures)),
        messages=messages,
        body=body,
        worst_case=Usage(tokens_in, length, server.price(tokens_in, length)),
        read=heard(read),
        keep=partial(_keep, asking, len(before) + 1),
        whole=False,
        failing_decides=False,
        tries=tries,
    )


def read_kept(kept: Kept, read: Read) -> Any:
    """The value of a kept reply. Raises UnreadableReply."""
    if kept.truncated:
        raise UnreadableReply(_TOO_LONG)
    return read(kept.reply)


def heard(read: Read) -> Callable[[str], Any]:
    """The reader of the ledger's text, for which a refusal in words is a verdict, and no reply to correct."""

    def of_text(text: str) -> Any:
        kept = kept_of(text)
        try:
            return read_kept(kept, read)
        except UnreadableReply:
            if (said := refusal_in(kept.reply)) is not None:
                raise AnnotationError(REFUSED_IN_WORDS, said, text) from None
            raise

    return of_text


def is_about_content(detail: str) -> bool:
    """Whether a server that does not take a request says that it is for what is shown or written there."""
    return _POLICY.search(detail) is not None


def now() -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _keep(asking: Asking, attempt: int, completion: Completion) -> str:
    """What is kept of a reply. Unfit where it is that of another model: nothing is kept."""
    asking.check_model(completion.model)
    text = completion.text
    text = text if len(text) <= MAX_REPLY else stored_text(text)
    return Kept(text, completion.model, now(), attempt, completion.truncated).text()


def _fault_of(kept: Kept, read: Read) -> str:
    try:
        read_kept(kept, read)
    except UnreadableReply as error:
        return str(error)
    return "it cannot be read"
