"""Which questions a row still has: no request is sent, the ledger answers."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from got_core.annotate import schemas, t2i
from got_core.annotate.config import VLLMConfig
from got_core.annotate.ledger import Ledger
from got_core.annotate.ledger_annotator import LedgerAnnotator
from got_core.annotate.openai_annotator import revision_of
from got_core.annotate.ray_batch import RayAnnotator
from got_core.annotate.request import body_of, sampling_of
from got_core.settings import Settings
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import (
    SCOPE,
    ChatServer,
    annotate_shard,
    annotator_for,
    plain_picture,
    raw_table,
)
from tests.got_core.annotate.scenes_on_hand import table

CONFIG = VLLMConfig(vision_model="eyes", text_model="words", box_unit="thousandths")


def test_a_row_shows_as_many_questions_as_can_be_put_at_once(storage: Storage) -> None:
    annotator = LedgerAnnotator(CONFIG, Ledger(storage, SCOPE))
    t2i.caption_images(raw_table(1), plain_picture, annotator)
    (first,) = annotator.take_pending().values()  # the caption hangs on the prompt
    assert first.question.step == "t2i_prompt" and first.vision
    rows = [{"image_id": "image-0", "entities": ["cat", "ball", "cat"]}]
    t2i.ground_entities(table(rows, schemas.ENTITIES), raw_table(1), plain_picture, annotator)
    assert [one.question.step for one in annotator.take_pending().values()] == ["ground_together"]
    alone = LedgerAnnotator(replace(CONFIG, boxes="one by one"), Ledger(storage, SCOPE))
    t2i.ground_entities(table(rows, schemas.ENTITIES), raw_table(1), plain_picture, alone)
    assert [one.question.step for one in alone.take_pending().values()] == ["ground"] * 3
    assert annotator.take_pending() == {}


def test_answers_of_a_server_are_found_and_give_the_same_tables(storage: Storage) -> None:
    with ChatServer() as server:
        annotate_shard(server.url, storage.url, 3, {})
        with annotator_for(server, storage) as requesting:
            assert revision_of(CONFIG) == requesting.revision
    annotator = LedgerAnnotator(CONFIG, Ledger(storage, SCOPE))
    captions = t2i.caption_images(raw_table(3), plain_picture, annotator)
    entities = t2i.extract_entities(captions, annotator)
    assert captions.equals(storage.read_table("captions"))
    boxes = t2i.ground_entities(entities, raw_table(3), plain_picture, annotator)
    assert boxes.equals(storage.read_table("boxes"))
    assert annotator.take_pending() == {}


def test_what_is_sent_to_an_engine_is_what_a_server_is_sent(storage: Storage) -> None:
    annotator = LedgerAnnotator(CONFIG, Ledger(storage, SCOPE))
    annotator.ground(plain_picture("1.png"), "ball")
    (one,) = annotator.take_pending().values()
    request = one.request(CONFIG)
    sampling = sampling_of(CONFIG, request.prompt)
    assert request.messages[0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert request.body["max_tokens"] == sampling["max_tokens"]
    assert sampling["structured_outputs"] == {"json": request.prompt.schema_text}
    assert request.body == body_of(CONFIG, request.prompt, "eyes", request.messages)


def test_sent_to_a_worker_the_annotator_collects(storage: Storage) -> None:
    with RayAnnotator(CONFIG, storage, SCOPE) as annotator:
        there = pickle.loads(pickle.dumps(annotator))
    assert isinstance(there, LedgerAnnotator)
    assert (there.revision, there.config) == (annotator.revision, CONFIG)


def test_settings_of_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_ANNOTATOR", "vllm")
    with pytest.raises(ValueError, match="GOT_ANNOTATOR_VISION_MODEL"):
        _ = Settings().annotator_config
    monkeypatch.setenv("GOT_ANNOTATOR_VISION_MODEL", "/models/Qwen2.5-VL-7B-Instruct")
    monkeypatch.setenv("GOT_ANNOTATOR_ENGINE", '{"tensor_parallel_size": 4}')
    monkeypatch.setenv("GOT_ANNOTATOR_REPLICAS", "2")
    config = Settings().annotator_config
    assert isinstance(config, VLLMConfig) and config.replicas == 2 and config.gpu
    assert config.engine == {"tensor_parallel_size": 4}
    monkeypatch.setenv("GOT_ANNOTATOR_BUDGET_TOKENS", "1000")
    with pytest.raises(ValueError, match="budget"):
        _ = Settings().annotator_config
