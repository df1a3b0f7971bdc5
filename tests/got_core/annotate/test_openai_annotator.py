from __future__ import annotations

import base64
import io
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from aiohttp import web
from PIL import Image

from got_core.annotate import t2i
from got_core.annotate.annotator import AnnotationError, AnnotationPaused, AskingFailed
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.annotate.schemas import BOXES, CAPTIONS
from got_core.annotate.spending import BudgetExhausted
from got_core.chain.boxes import Box
from got_core.corpus.schemas import check_schema
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import (
    SCOPE,
    ChatServer,
    annotate_shard,
    annotator_for,
    completion,
    config_for,
    is_plain,
    plain_picture,
    raw_table,
    sensible,
    text_of,
)

TABLES = ("captions", "entities", "boxes", "t2i_chains")
PICTURE = Image.new("RGB", (200, 100), "red")


def failing(times: int, response) -> object:
    """Answers sensibly after so many failures."""
    left = [times]

    def answer(body):
        left[0] -= 1
        return response(body) if left[0] >= 0 else sensible(body)

    return answer


def test_a_shard_is_annotated_in_order_and_counted(storage: Storage) -> None:
    with ChatServer(latency=0.005) as server:
        annotate_shard(server.url, storage.url, 12, {})
        captions, boxes = storage.read_table("captions"), storage.read_table("boxes")
        check_schema(captions, CAPTIONS, "captions")
        check_schema(boxes, BOXES, "boxes")
        assert captions["image_id"].to_list() == [f"image-{k}" for k in range(12)]
        assert captions["error"].null_count() == 12
        assert captions["tokens_in"].to_list() == [200] * 12
        assert boxes["tokens_out"].to_list() == [10] * 12, "both boxes in one request"
        chains = storage.read_table("t2i_chains")
        assert chains["boxes"].to_list() == [2] * 12
        assert max(Counter(server.requests).values()) == 1
        assert 2 <= server.most_at_once <= 4
        before = len(server.requests)
        annotate_shard(server.url, storage.url, 12, {})
        assert len(server.requests) == before == 12 * 4
        assert storage.read_table("boxes").equals(boxes)


def test_what_is_sent(storage: Storage) -> None:
    with ChatServer() as server, annotator_for(server, storage, image_side=100) as annotator:
        annotator.ground(PICTURE, "red ball", 1)
        annotator.extract_entities("A qabc cat sits beside a red ball.")
    shown, plain = server.bodies
    assert (shown["model"], plain["model"]) == ("eyes", "words")
    image, text = shown["messages"][0]["content"]
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (84, 56)
    assert "red ball" in text["text"] and "second one" in text["text"]
    form = shown["response_format"]
    assert form["type"] == "json_schema" and "box" in form["json_schema"]["schema"]["properties"]
    assert shown["temperature"] == 0 and shown["max_tokens"] > 0


def test_the_same_question_under_way_is_asked_once(storage: Storage) -> None:
    with ChatServer(latency=0.2) as server, annotator_for(server, storage) as annotator:
        answers: list[Box | None] = []

        def ground() -> None:
            answers.append(annotator.ground(PICTURE, "ball"))

        threads = [threading.Thread(target=ground) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 1 and len(set(answers)) == 1 and len(answers) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"vision_model": "other"},
        {"vision_revision": "2"},
        {"temperature": 0.5},
        {"seed": 1},
        {"image_side": 84},
        {"image_factor": 32},
    ],
)
def test_another_model_or_sampling_is_another_question(storage: Storage, change: dict) -> None:
    with ChatServer() as server:
        with annotator_for(server, storage) as annotator:
            revision = annotator.revision
            annotator.ground(PICTURE, "ball")
        with annotator_for(server, storage, **change) as annotator:
            annotator.ground(PICTURE, "ball")
            assert annotator.revision != revision
        with annotator_for(server, storage) as annotator:
            annotator.ground(PICTURE, "ball")
        assert len(server.requests) == 2


def test_a_bad_reply_is_corrected_and_then_quarantined(storage: Storage) -> None:
    with ChatServer(lambda body: "I see no ball, sorry") as server:
        with annotator_for(server, storage) as annotator:
            frame = t2i.caption_images(raw_table(1), plain_picture, annotator)
            assert frame["error"][0] is None  # running text
            with pytest.raises(AnnotationError, match="bad_reply: the reply holds no JSON") as caught:
                annotator.ground(PICTURE, "ball")
        assert caught.value.raw == "I see no ball, sorry"
        messages = server.bodies[-1]["messages"]
        assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
        assert "holds no JSON" in messages[-1]["content"]
        before = len(server.requests)
        with annotator_for(server, storage) as annotator, pytest.raises(AnnotationError, match="bad_reply"):
            annotator.ground(PICTURE, "ball")
        assert len(server.requests) == before == 2 + 3


def test_a_corrected_reply_is_taken(storage: Storage) -> None:
    def answer(body):
        return sensible(body) if len(body["messages"]) > 1 else "[1, 2"

    with ChatServer(answer) as server, annotator_for(server, storage, price_in=1e6) as annotator:
        assert annotator.ground(PICTURE, "ball") is not None
        assert annotator.spent.tokens_in == 200 and annotator.spent.cost == 200


def test_a_quarantined_row_keeps_the_reply_and_stops_nothing(storage: Storage) -> None:
    bad: list[str] = []

    def answer(body):
        text = text_of(body)
        if "List the objects" not in text:
            return sensible(body)
        if not bad:
            bad.append(text)
        return "{}" if text == bad[0] else sensible(body)

    with ChatServer(answer) as server, annotator_for(server, storage) as annotator:
        captions = t2i.caption_images(raw_table(3), plain_picture, annotator)
        entities = t2i.extract_entities(captions, annotator)
    assert sorted(entities["reason"].to_list(), key=str) == [None, None, "bad_reply"]
    (row,) = entities.filter(entities["reason"] == "bad_reply").rows(named=True)
    assert (row["raw_reply"], row["tokens_in"], row["entities"]) == ("{}", 300, None)


@pytest.mark.parametrize(
    "response",
    [
        lambda _: web.Response(status=429, headers={"Retry-After": "0.02"}),
        lambda _: web.Response(status=500, text="oops"),
        lambda _: web.Response(status=503),
        lambda _: web.Response(text="<html>maintenance</html>"),
        lambda _: web.json_response({"choices": []}),
    ],
)
def test_passing_failures_are_tried_again(storage: Storage, response) -> None:
    with ChatServer(failing(3, response)) as server, annotator_for(server, storage) as annotator:
        assert annotator.ground(PICTURE, "ball") is not None
        assert len(server.requests) == 4 == annotator.requests


def test_a_request_that_always_fails_is_given_up_and_judged_in_the_third_run(storage: Storage) -> None:
    def answer(body):
        poisoned = "Find this object in the image: poison" in text_of(body)
        return web.Response(status=500) if poisoned else sensible(body)

    with ChatServer(answer) as server:
        for run in (1, 2, 3):
            with annotator_for(server, storage, retries=2) as annotator, others_going_well(annotator, run):
                if run < 3:
                    with pytest.raises(AskingFailed, match=r"3 requests failed .*HTTP 500"):
                        annotator.ground(PICTURE, "poison")
                else:
                    with pytest.raises(AnnotationError, match=r"server_error: in 3 runs; .*HTTP 500"):
                        annotator.ground(PICTURE, "poison")
        before = sum("poison" in text_of(body) for body in server.bodies)
        with annotator_for(server, storage) as annotator, pytest.raises(AnnotationError, match="in 3 runs"):
            annotator.ground(PICTURE, "poison")
        assert before == sum("poison" in text_of(body) for body in server.bodies)
        assert before >= 9, "three in each run, and those that failed while no other went well"


@contextmanager
def others_going_well(annotator: OpenAIAnnotator, run: int) -> Iterator[None]:
    """Other questions are answered all the while."""
    done = threading.Event()

    def keep_going() -> None:
        for number in range(10_000):
            if done.is_set():
                return
            annotator.ground(PICTURE, f"ball {run} {number}")

    others = threading.Thread(target=keep_going)
    others.start()
    try:
        yield
    finally:
        done.set()
        others.join()


def test_refusals_and_wrong_settings(storage: Storage) -> None:
    def too_large(body):
        return sensible(body) if is_plain(body) else web.Response(status=400, text="image too large")

    with ChatServer(too_large) as server:
        with annotator_for(server, storage) as annotator:
            frame = t2i.caption_images(raw_table(2), plain_picture, annotator)
        assert frame["reason"].to_list() == ["refused"] * 2
        assert "image too large (the server answers other requests)" in frame["error"][0]
    for status in (401, 404, 307):
        refused = partial(web.Response, status=status, headers={"Location": "/x"})
        with (
            ChatServer(lambda _, refused=refused: refused()) as server,
            annotator_for(server, storage, api_key="secret-key") as annotator,
            pytest.raises(AnnotationPaused, match=f"HTTP {status}") as caught,
        ):
            t2i.caption_images(raw_table(8), plain_picture, annotator)
        assert "secret-key" not in f"{caught.value}{annotator.config}"


def test_huge_and_endless_responses_are_refused(storage: Storage) -> None:
    answers = {
        "huge": lambda: web.json_response(completion("x" * 200_000)),
        "endless": lambda: web.StreamResponse(headers={"Content-Type": "application/json"}),
        "zipped": lambda: web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
    }

    def answer(body):
        found = (make() for name, make in answers.items() if f"image: {name}" in text_of(body))
        return next(found, None) or sensible(body)

    with ChatServer(answer) as server, annotator_for(server, storage, max_reply_bytes=100_000) as annotator:
        for name in ("huge", "endless"):
            with pytest.raises(AnnotationError, match="too_large"):
                annotator.ground(PICTURE, name)
        with pytest.raises(AnnotationPaused, match="turn compression off"):
            annotator.ground(PICTURE, "zipped")
        assert sum(not is_plain(body) for body in server.bodies) == 2 * 2 + 1


def test_a_reply_that_takes_too_long_is_asked_for_again(storage: Storage) -> None:
    with ChatServer(latency=60) as server:
        with (
            annotator_for(server, storage, timeout=0.5, patience=4.0) as annotator,
            pytest.raises(AnnotationPaused, match=r"no (reply within 0\.5 s|connection)"),
        ):
            annotator.ground(PICTURE, "ball")
        assert annotator.requests >= 2


def test_a_dead_server_pauses_the_shard_which_goes_on_later(storage: Storage) -> None:
    notices: list[str] = []
    with ChatServer() as server:
        annotate_shard(server.url, storage.url, 3, {})
        url = server.url
    config = config_for(url, patience=0.3)
    with (
        OpenAIAnnotator(config, Ledger(storage, SCOPE), notices.append) as annotator,
        pytest.raises(AnnotationPaused, match="no connection"),
    ):
        t2i.caption_images(raw_table(6), plain_picture, annotator)
    assert "does not reply" in notices[0]
    with ChatServer() as server:
        annotate_shard(server.url, storage.url, 6, {})
        assert len(server.requests) == 3 * 4


def test_a_server_that_comes_back_is_waited_for(storage: Storage) -> None:
    notices: list[str] = []
    with ChatServer(failing(20, lambda _: web.Response(status=503))) as server:
        config = config_for(server.url, retries=1)
        with OpenAIAnnotator(config, Ledger(storage, SCOPE), notices.append) as annotator:
            frame = t2i.caption_images(raw_table(4), plain_picture, annotator)
    assert frame["error"].null_count() == 4
    assert "does not reply" in notices[0] and "replies again" in notices[-1]


@pytest.mark.parametrize(
    "limits", [{"budget_tokens": 9_000}, {"budget": 9.0, "price_in": 1e3, "price_out": 1e3}]
)
def test_a_budget_stops_before_it_is_exceeded(storage: Storage, limits: dict) -> None:
    with ChatServer(latency=0.002) as server:
        for _ in range(2):  # what was spent before counts
            with annotator_for(server, storage, **limits) as annotator:
                with pytest.raises(BudgetExhausted, match="the budget of this shard"):
                    t2i.caption_images(raw_table(100), plain_picture, annotator)
                assert annotator.spent.tokens <= 9_000
        used = 110 * len(server.requests)
        assert 9_000 - 2_500 < used <= 9_000
        with annotator_for(server, storage) as annotator:
            frame = t2i.caption_images(raw_table(100), plain_picture, annotator)
        assert frame["error"].null_count() == 100
        assert max(Counter(server.requests).values()) == 1


def test_killed_at_random_twenty_times(tmp_path) -> None:
    """The same tables as undisturbed; nothing that was committed is requested again."""
    concurrency, count, kills = 4, 60, 20
    settings = {"concurrency": concurrency, "budget_tokens": 10_000_000}
    calm, shaken = Storage(f"file://{tmp_path}/calm"), Storage(f"file://{tmp_path}/shaken")
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.got_core.annotate.chat_server"])
    rng = random.Random(5)
    with ChatServer(latency=0.01) as server:
        annotate_shard(server.url, calm.url, count, settings)
        questions = set(server.requests)
        server.requests.clear()
        for _ in range(kills):
            done = {word for word in questions if word in _committed(shaken)}
            begun = len(server.requests)
            worker = forks.Process(target=annotate_shard, args=(server.url, shaken.url, count, settings))
            worker.start()
            wanted = begun + rng.randint(1, 8)
            while len(server.requests) < wanted and worker.is_alive():
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            assert worker.exitcode == -signal.SIGKILL, "the shard ended before it was killed"
            while server.at_once:
                time.sleep(0.01)
            now = server.requests[begun:]
            assert not done & set(now), "what was committed is not requested again"
            assert len(now) == len(set(now))
            lost = [word for word in now if word not in _committed(shaken)]
            assert len(lost) <= concurrency, "only what was under way is lost"
        done, begun = {word for word in questions if word in _committed(shaken)}, len(server.requests)
        assert len(done) > kills, "something was committed before the last run"
        annotate_shard(server.url, shaken.url, count, settings)
        assert set(server.requests[begun:]) == questions - done
        assert set(server.requests) == questions
        assert len(server.requests) - len(questions) <= concurrency * kills
        again = len(server.requests)
        annotate_shard(server.url, shaken.url, count, settings)
        assert len(server.requests) == again, "a finished shard sends no request"
    for name in TABLES:
        assert shaken.read_table(name).equals(calm.read_table(name))


def _committed(storage: Storage) -> str:
    """Everything that the ledger's finished replies say; each holds its question's name."""
    ledger = Ledger(storage, SCOPE)
    return json.dumps([record.text for record in ledger._records.values()])
