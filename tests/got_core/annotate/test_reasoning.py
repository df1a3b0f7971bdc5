"""Reasoning is taken off once, in the spellings of many models; cut-off reasoning is no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from got_core.annotate import replies, t2i
from got_core.annotate.ledger import Ledger, Record
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.annotate.reasoning import ReplyError, answer_text
from got_core.annotate.replies import Frame
from got_core.chain.boxes import Box
from got_core.storage import Storage

from .chat_server import (
    SCOPE,
    ChatServer,
    annotator_for,
    completion,
    config_for,
    plain_picture,
    raw_table,
    sensible,
)

WRAPPED = (
    "<think>{t}</think>{a}",
    "<think>\n{t}\n</think>\n\n{a}",
    "{t}</think>{a}",
    "\n</think>\n{a}",
    "<think></think>{a}",
    "<think>{t}</think>\n<think>{t}</think>{a}",
    "<think>{t} <think>{t}</think>{a}",
    "<thinking>{t}</thinking>{a}",
    "<THINK>{t}</THINK>{a}",
    "<thought>{t}</thought>{a}",
    "<reasoning>{t}</reasoning>{a}",
    "<seed:think>{t}</seed:think>{a}",
    "[THINK]{t}[/THINK]{a}",
    "◁think▷{t}◁/think▷{a}",
    "<|begin_of_thought|>{t}<|end_of_thought|>\n<|begin_of_solution|>{a}<|end_of_solution|>",
    "< think >{t}</ think >{a}",
    "<think/>{a}",
    "<reason>{t}</reason>{a}",
    "<scratchpad>{t}</scratchpad>\n{a}",
    '<details type="reasoning" done="true">\n<summary>4 s</summary>\n{t}\n</details>\n{a}',
    "```thinking\n{t}\n```\n{a}",
    "<|channel|>analysis<|message|>{t}<|end|><|start|>assistant<|channel|>final<|message|>{a}<|return|>",
    "<think>{t}</think><answer>{a}</answer>",
    "<think>{t}</think>{a}<|im_end|>",
)
THOUGHT = "The box could be [1, 2, 3, 4]. Caption: a dog? No."


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize(
    "answer", ["A red ball.", '{"found": true, "box": [10, 20, 30, 40]}', "1 < 2, so I think."]
)
def test_the_answer_alone_is_left(wrapped: str, answer: str) -> None:
    assert answer_text(wrapped.format(t=THOUGHT, a=answer)).strip() == answer


@pytest.mark.parametrize(
    "reply",
    [
        "<think>" + THOUGHT,
        "<think>" + THOUGHT + "</think>",
        "<think>a</think>  \n",
        "[THINK]" + THOUGHT,
        "◁think▷" + THOUGHT,
        "<|channel|>analysis<|message|>" + THOUGHT,
        "A ball. <think>" + THOUGHT,
        "A ball.<think>b</think>A cat.",
        THOUGHT + "</think>",
    ],
)
def test_reasoning_without_one_answer_is_malformed(reply: str) -> None:
    with pytest.raises(ReplyError):
        answer_text(reply)


@pytest.mark.parametrize(
    "text",
    [
        "A sign that says <3 beside a child deep in thought.",
        'A wall with the graffiti "<think>" in white.',
        "A thinking man; reasoning on a blackboard: a < b > c.",
        "",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert answer_text(text) == text


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_every_reader_reads_the_answer(wrapped: str) -> None:
    def read(reader: Any, answer: str) -> Any:
        return replies.bounded(reader)(wrapped.format(t=THOUGHT, a=answer))

    caption = "A red ball lies on a table."
    assert read(replies.read_paragraph, caption) == caption
    assert read(lambda text: replies.read_box(text, Frame(64, 48)), "[10, 20, 30, 40]") == Box(10, 20, 30, 40)
    assert read(lambda text: replies.read_entities(text, caption), '{"entities": ["red ball"]}') == [
        "red ball"
    ]
    assert read(replies.read_steps, '["remove the ball"]') == ["remove the ball"]
    assert read(replies.read_wordings, '{"instructions": ["a b", "c d", "e f"]}') == ["a b", "c d", "e f"]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_in_a_field_of_its_own(storage: Storage, field: str) -> None:
    def apart(body: dict[str, Any]) -> web.Response:
        reply = completion(sensible(body))
        reply["choices"][0]["message"][field] = THOUGHT
        return web.json_response(reply)

    def only(body: dict[str, Any]) -> web.Response:
        reply = completion(None)
        reply["choices"][0]["message"][field] = THOUGHT
        return web.json_response(reply)

    with ChatServer(apart) as server, annotator_for(server, storage) as annotator:
        frame = t2i.caption_images(raw_table(2), plain_picture, annotator)
    assert frame["error"].null_count() == 2 and not frame["prompt"].str.contains("dog").any()
    with ChatServer(only) as server, annotator_for(server, storage, vision_revision="2") as annotator:
        frame = t2i.caption_images(raw_table(1), plain_picture, annotator)
    assert frame["reason"].to_list() == ["bad_reply"] and "reasoning without an answer" in frame["error"][0]
    replies = [
        message["content"] for message in server.bodies[-1]["messages"] if message["role"] == "assistant"
    ]
    assert THOUGHT not in json.dumps(replies)


def test_thinking_that_an_older_version_kept_as_an_answer_is_asked_again(storage: Storage) -> None:
    with ChatServer() as server:
        with annotator_for(server, storage) as annotator:
            t2i.caption_images(raw_table(1), plain_picture, annotator)
            before = len(server.requests)
        ledger = Ledger(storage, SCOPE)
        for record in ledger._records.copy().values():
            ledger.finish(Record(**{**vars(record), "text": f"<think>{THOUGHT}"}))
        with OpenAIAnnotator(config_for(server.url), ledger) as annotator:
            frame = t2i.caption_images(raw_table(1), plain_picture, annotator)
        assert frame["error"].null_count() == 1 and len(server.requests) == 2 * before
        with annotator_for(server, storage) as annotator:
            t2i.caption_images(raw_table(1), plain_picture, annotator)
        assert len(server.requests) == 2 * before
