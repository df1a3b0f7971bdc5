"""A question as a request to a model.

Belongs here: what is sent, and what it may cost at most. Not here: sending it (`client`, `dispatch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from got_core.annotate.config import LENGTH_NAMES, OpenAIConfig
from got_core.annotate.envelope import Completion
from got_core.annotate.ledger import Question
from got_core.annotate.pictures import Picture
from got_core.annotate.prompt_files import Prompt, prompt
from got_core.annotate.reasoning import ReplyError, answer_text
from got_core.annotate.replies import stored_text
from got_core.annotate.usage import Usage

if TYPE_CHECKING:
    from got_core.annotate.client import Tries

PLACES_TOGETHER = 12
"""Names that one request may have boxes of, at most."""
_LENGTHS = {"t2i_prompt": 128, "t2i_caption": 768, "edit_chain": 768, "multi_turn_chain": 1280, "ground": 96}
_LENGTHS["ground_together"] = 64 * PLACES_TOGETHER
_LENGTH = 384
_CORRECTION = (
    "That reply cannot be used: {error}. Reply again to the same request, in the form that it asks for, "
    "and with nothing else."
)


def answer_kept(completion: Completion) -> str:
    """The answer of a reply."""
    return stored_text(completion.text)


@dataclass(frozen=True)
class Request:
    """A question with its request."""

    question: Question
    prompt: Prompt
    url: str
    messages: list[dict[str, Any]]
    body: dict[str, Any]
    """The request of the first attempt."""
    worst_case: Usage
    """What a request may cost at most, by its size."""
    read: Callable[[str], Any]
    keep: Callable[[Completion], str] = answer_kept
    """What the ledger keeps of a reply, and `read` gets. It may raise AnnotationPaused."""
    whole: bool = True
    """Whether a reply that ended at the limit of its length is of no use."""
    failing_decides: bool = True
    """Whether failing in several runs, though others are answered, is the verdict. Else it is not kept."""
    tries: Tries | None = None
    """How many requests it may take. None: any number."""


def length_of(config: OpenAIConfig, name: str) -> int:
    """Tokens that a reply to the prompt of that name may have."""
    return _LENGTHS.get(name, _LENGTH) + config.thinking_tokens


def sampling(config: OpenAIConfig, length: int) -> tuple[tuple[str, float | int | str | None], ...]:
    """What a reply depends on beside model, prompt and picture."""
    schema_choice = () if config.send_schema else (("schema", "not sent"),)
    return (
        ("image_quality", config.image_quality),
        ("image_side", config.image_side),
        ("length", length),
        ("seed", config.seed),
        ("temperature", config.temperature),
        *schema_choice,
    )


def question_of(
    config: OpenAIConfig, template: Prompt, texts: Mapping[str, str], picture: Picture | None
) -> Question:
    """The question of a prompt that is filled in, with the model that it is for."""
    model, revision = config.model(vision=picture is not None)
    picture_size = (("image_size", "{}x{}".format(*picture.size)),) if picture else ()
    return Question(
        step=template.name,
        prompt=template.hash,
        texts=tuple(sorted(texts.items())),
        image=picture.hash if picture else None,
        model=model,
        revision=revision,
        sampling=(*sampling(config, length_of(config, template.name)), *picture_size),
    )


def request_of(
    config: OpenAIConfig,
    question: Question,
    texts: Mapping[str, str],
    picture: Picture | None,
    read: Callable[[str], Any],
) -> Request:
    """The request of a question."""
    template = prompt(question.step)
    text = {"type": "text", "text": template.filled(**texts)}
    content = [{"type": "image_url", "image_url": {"url": picture.data_url}}] if picture else []
    messages = [{"role": "user", "content": [*content, text] if content else text["text"]}]
    # A token is at least one byte of text; servers may add the schema to it.
    tokens_in = len(text["text"].encode()) + len((template.schema_text or "").encode()) + 128
    tokens_in += picture.tokens if picture else 0
    length = length_of(config, template.name)
    return Request(
        question=question,
        prompt=template,
        url=config.endpoint(vision=picture is not None),
        messages=messages,
        body=body_of(config, template, question.model, messages),
        worst_case=Usage(tokens_in, length, config.price(tokens_in, length)),
        read=read,
    )


def body_of(
    config: OpenAIConfig, template: Prompt, model: str, messages: list[dict[str, Any]]
) -> dict[str, Any]:
    """The body of a request."""
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        config.length_name or LENGTH_NAMES[0]: length_of(config, template.name),
    }
    if config.temperature is not None:
        body["temperature"] = config.temperature
    if config.seed is not None:
        body["seed"] = config.seed
    if template.schema is not None and config.send_schema:
        schema = {"name": template.name, "schema": template.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def correction_messages(reply: str, error: str) -> list[dict[str, Any]]:
    """The messages that hand a reply back to the model, without its reasoning, with what is wrong with it."""
    try:
        answer = answer_text(reply)[:2000].strip()
    except ReplyError:
        answer = ""
    return [
        {"role": "assistant", "content": answer or "(no answer)"},
        {"role": "user", "content": _CORRECTION.format(error=error)},
    ]


def sampling_of(config: OpenAIConfig, template: Prompt) -> dict[str, Any]:
    """The same of a body as arguments of vLLM's SamplingParams; the schema stays text."""
    schema = template.schema_text if config.send_schema else None
    parameters: dict[str, Any] = {
        "max_tokens": length_of(config, template.name),
        "seed": config.seed,
        "structured_outputs": {"json": schema} if schema else None,
    }
    if config.temperature is not None:
        parameters["temperature"] = config.temperature
    return parameters
