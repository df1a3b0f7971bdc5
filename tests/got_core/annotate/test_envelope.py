"""What servers answer beside a plain text: parts, refusals, errors, and parameters that they do not take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from got_core.annotate import t2i
from got_core.annotate.annotator import AnnotationPaused
from got_core.storage import Storage

from .chat_server import (
    ChatServer,
    annotator_for,
    completion,
    is_plain,
    plain_picture,
    raw_table,
    sensible,
)

UNSUPPORTED = {
    "error": {
        "message": "Unsupported parameter: '{0}' is not supported with this model. Use '{1}' instead.",
        "type": "invalid_request_error",
        "param": "{0}",
        "code": "unsupported_parameter",
    }
}
UNKNOWN = {
    "object": "error",
    "message": "[{{'loc': ('body', '{0}'), 'msg': 'Extra inputs are not permitted'}}]",
    "type": "BadRequestError",
}
FASTAPI = {
    "detail": [{"type": "extra_forbidden", "loc": ["body", "{0}"], "msg": "Extra inputs are not permitted"}]
}


def refusing(name: str, other: str, shape: Any, status: int):
    """A server that answers unless a body has the parameter `name`."""
    response = (
        json.dumps(shape).replace("{0}", name).replace("{1}", other).replace("{{", "{").replace("}}", "}")
    )

    def answer(body: dict[str, Any]) -> str | web.Response:
        if name in body:
            return web.Response(status=status, text=response, content_type="application/json")
        assert other in body
        return sensible(body)

    return answer


@pytest.mark.parametrize("shape", [UNSUPPORTED, UNKNOWN, FASTAPI], ids=["openai", "vllm", "fastapi"])
@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_length_is_called_as_the_server_wants(
    storage: Storage, shape: Any, status: int, name: str
) -> None:
    other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}[name]
    with (
        ChatServer(refusing(name, other, shape, status)) as server,
        annotator_for(server, storage, concurrency=1) as annotator,
    ):
        frame = t2i.caption_images(raw_table(6), plain_picture, annotator)
    assert frame["error"].null_count() == 6
    refused = [body for body in server.bodies if name in body]
    assert len(refused) == (name == "max_tokens"), "found out once, not once a row"


@pytest.mark.parametrize(
    ("response", "name"),
    [
        ({"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model. "
                    "Only the default (1) value is supported.", "param": "temperature"}},
         "TEMPERATURE"),
        ({"error": {"message": "Unknown parameter: 'seed'.", "param": "seed"}}, "SEED"),
        ({"error": {"message": "Invalid parameter: 'response_format' of type 'json_schema' is not supported "
                    "with this model.", "param": None}}, "SEND_SCHEMA"),
        ([{"error": {"code": 400, "message": 'Unknown name "seed": Cannot find field.'}}], "SEED"),
        ({"error": {"message": "This response_format type is unavailable now"}}, "SEND_SCHEMA"),
        ({"error": {"message": "No endpoints found that support image input"}}, "VISION_MODEL"),
        ({"error": {"message": "eyes is not a valid model ID"}}, "VISION_MODEL"),
        ({"detail": [{"loc": ["body", "temperature"], "msg": "Input should be greater than 0", "input": 0}]},
         "TEMPERATURE"),
    ],
)  # fmt: skip
def test_a_refused_parameter_pauses_the_shard(storage: Storage, response: Any, name: str) -> None:
    with (
        ChatServer(lambda _: web.json_response(response, status=400)) as server,
        annotator_for(server, storage) as annotator,
        pytest.raises(AnnotationPaused, match=f"GOT_ANNOTATOR_{name}"),
    ):
        t2i.extract_entities(_captions(), annotator)
    assert not annotator_rows(storage)
    assert len(server.requests) <= 4


def test_a_server_that_takes_neither_name_pauses_the_shard(storage: Storage) -> None:
    def neither(body: dict[str, Any]) -> web.Response:
        name = next(name for name in body if name.startswith("max_"))
        return web.json_response(
            {"error": {"message": f"Unknown parameter: '{name}'.", "param": name}}, status=400
        )

    with (
        ChatServer(neither) as server,
        annotator_for(server, storage) as annotator,
        pytest.raises(AnnotationPaused, match="GOT_ANNOTATOR_LENGTH_NAME"),
    ):
        t2i.caption_images(raw_table(3), plain_picture, annotator)


def _captions():
    """One captioned picture, ready for the question that sends a schema."""
    from got_core.annotate.schemas import CAPTIONS
    from tests.got_core.annotate.scenes_on_hand import table

    return table([{"image_id": "image-0", "prompt": "a", "caption": "A qabc cat and a red ball."}], CAPTIONS)


def annotator_rows(storage: Storage) -> list[str]:
    """Answers that were kept."""
    from got_core.annotate.ledger import Ledger

    from .chat_server import SCOPE

    return [*Ledger(storage, SCOPE)._records]


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "a cat "}, {"type": "text", "text": "and a ball"}],
        [{"type": "output_text", "text": "a cat and a ball"}],
        ["a cat and a ", "ball"],
        [{"text": "a cat and a ball"}, {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x"}}],
    ],
)
def test_parts_are_joined(storage: Storage, content: Any) -> None:
    def parts(body: dict[str, Any]) -> web.Response:
        return web.json_response(completion(content))

    with ChatServer(parts) as server, annotator_for(server, storage) as annotator:
        frame = t2i.caption_images(raw_table(1), plain_picture, annotator)
    assert frame["prompt"].to_list() == ["a cat and a ball"]


@pytest.mark.parametrize(
    "change",
    [
        {"message": {"role": "assistant", "content": None, "refusal": "I cannot help with that."}},
        {"message": {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}},
        {"message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"},
    ],
)
def test_refusals_are_the_rows_matter(storage: Storage, change: dict) -> None:
    def refuse(_: dict[str, Any]) -> web.Response:
        reply = completion("")
        reply["choices"][0] |= change
        return web.json_response(reply)

    with ChatServer(refuse) as server, annotator_for(server, storage) as annotator:
        frame = t2i.caption_images(raw_table(1), plain_picture, annotator)
    assert frame["reason"].to_list() == ["refused"] and len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Provider returned error", "code": 502}},
        {"choices": []},
        {"id": "x"},
        {"choices": [{"error": {"code": 429, "message": "busy"}}]},
    ],
)
def test_an_error_with_status_200_is_tried_again(storage: Storage, body: dict) -> None:
    failing = iter([True, False])

    def answer(request: dict[str, Any]) -> str | web.Response:
        return web.json_response(body) if next(failing, False) else sensible(request)

    with ChatServer(answer) as server, annotator_for(server, storage, concurrency=1) as annotator:
        frame = t2i.caption_images(raw_table(1), plain_picture, annotator)
    assert frame["error"].null_count() == 1


@pytest.mark.parametrize(
    "message",
    [
        "Your image is flagged by our content policy",
        "Invalid image: the caption of a seed packet could not be decoded",
        "Image with unknown colour temperature: failed to read it",
        "This model does not support images larger than 20 MB",
        "The model does not support image format webp",
    ],
)
def test_what_is_wrong_with_one_request_stays_so(storage: Storage, message: str) -> None:
    response = {"error": {"message": message, "code": None, "param": None}}

    def answer(body: dict[str, Any]) -> Any:
        return sensible(body) if is_plain(body) else web.json_response(response, status=400)

    with ChatServer(answer) as server, annotator_for(server, storage) as annotator:
        frame = t2i.caption_images(raw_table(2), plain_picture, annotator)
    assert frame["reason"].to_list() == ["refused"] * 2
    assert sum(not is_plain(body) for body in server.bodies) == 4 and len(server.requests) <= 6
