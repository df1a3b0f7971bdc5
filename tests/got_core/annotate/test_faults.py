"""A model server behind a proxy with faults: what heals, what stops a shard, and what stays a verdict."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import polars as pl
import pytest
from aiohttp import web

from got_core.annotate import t2i
from got_core.annotate.annotator import AnnotationPaused
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.storage import Storage
from tests.faults import answers
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Cut, Fault, Latency

from .chat_server import (
    SCOPE,
    ChatServer,
    annotate_shard,
    config_for,
    is_plain,
    name_of,
    plain_picture,
    raw_table,
    sensible,
)

TABLES = ("captions", "entities", "boxes", "t2i_chains")
ROWS = 8
BODY = 100
"""Bytes of a reply after which it is cut: in the middle."""


@pytest.fixture
def undisturbed(tmp_path) -> dict[str, pl.DataFrame]:
    """The tables without any fault."""
    storage = Storage(f"file://{tmp_path}/undisturbed")
    with ChatServer() as server:
        annotate_shard(server.url, storage.url, ROWS, {})
    return tables(storage)


def tables(storage: Storage) -> dict[str, pl.DataFrame]:
    return {name: storage.read_table(name) for name in TABLES}


def same(found: dict[str, pl.DataFrame], wanted: dict[str, pl.DataFrame]) -> bool:
    return all(found[name].equals(wanted[name]) for name in TABLES)


@pytest.mark.parametrize(
    "fault",
    [
        answers.SERVER_ERROR,
        answers.OVERLOADED,
        answers.BAD_GATEWAY,
        answers.MAINTENANCE,
        answers.too_many_requests(0.02),
        answers.BAD_REQUEST,
        answers.TOO_LARGE,
        Cut(),
        Cut(0),
        Cut(BODY),
        Latency(1.0),
    ],
    ids=str,
)
def test_what_passes_heals_by_itself(
    storage: Storage,
    undisturbed: dict[str, pl.DataFrame],
    fault_proxy: Callable[..., FaultProxy],
    fault: Fault,
) -> None:
    with ChatServer() as server:
        proxy = fault_proxy(server.url)
        times = 1 if fault in (answers.BAD_REQUEST, answers.TOO_LARGE) else 2
        rules = [proxy.add(fault, skip=skip, times=times) for skip in (0, 9, 20)]
        annotate_shard(proxy.url, storage.url, ROWS, {"timeout": 0.6, "retries": 8})
    assert all(rule.used == times for rule in rules)
    assert same(tables(storage), undisturbed)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (answers.BAD_REQUEST, "refuses plain requests too.*HTTP 400.*Bad request.*run the step again"),
        (answers.TOO_LARGE, "refuses plain requests too.*HTTP 413"),
        (answers.UNAUTHORIZED, "HTTP 401: the API key is refused"),
        (answers.NO_MODEL, "HTTP 404: no such URL or model.*`eyes` does not exist"),
        (answers.model_error(402, "no credit left"), "HTTP 402: the account has no credit"),
        (answers.model_error(403, "no access"), "HTTP 403"),
        (answers.model_error(422, "cannot be processed"), "refuses plain requests too.*HTTP 422"),
        (answers.SERVER_ERROR, r"no reply for .*HTTP 500.*when the server is back"),
        (answers.too_many_requests(3600), "HTTP 429.*asks to come back in 3600 s"),
        (answers.MAINTENANCE, "no chat completion"),
        (Cut(), "the connection failed"),
        (Cut(BODY), "the connection failed"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
@pytest.mark.parametrize("skip", [0, 13])
def test_what_lasts_stops_the_shard_and_leaves_nothing_to_clean_up(
    storage: Storage,
    undisturbed: dict[str, pl.DataFrame],
    fault_proxy: Callable[..., FaultProxy],
    fault: Fault,
    said: str,
    skip: int,
) -> None:
    with ChatServer() as server:
        proxy = fault_proxy(server.url)
        proxy.add(fault, skip=skip)
        with pytest.raises(AnnotationPaused, match=said):
            annotate_shard(proxy.url, storage.url, ROWS, {"patience": 0.3})
        assert len(proxy.seen) < skip + 60
        assert not any(storage.exists(f"{name}.parquet") for name in TABLES)
        proxy.clear()
        annotate_shard(proxy.url, storage.url, ROWS, {})
        assert same(tables(storage), undisturbed)
        sent = [name_of(body) for body in server.bodies if not is_plain(body)]
        if not isinstance(fault, Cut):  # of those the server has answered some that never came
            assert len(set(sent)) == ROWS * 4
            assert len(sent) <= ROWS * 5 + 4, "only what was under way is asked again"


def test_a_server_that_refuses_everything_is_hardly_asked(
    storage: Storage, fault_proxy: Callable[..., FaultProxy]
) -> None:
    with ChatServer() as server:
        proxy = fault_proxy(server.url)
        proxy.add(answers.BAD_REQUEST)
        with pytest.raises(AnnotationPaused, match="no verdict on any row"):
            annotate_shard(proxy.url, storage.url, 500, {"concurrency": 4})
        assert len(proxy.seen) <= 10


def refusing(numbers: set[int]) -> Callable[[dict], object]:
    """Does not take the pictures of these rows."""

    def answer(body: dict) -> object:
        content = body["messages"][0]["content"]
        shown = content[0]["image_url"]["url"] if isinstance(content, list) else ""
        if any(shown == url_of(number) for number in numbers):
            return web.Response(status=400, text="picture cannot be decoded")
        return sensible(body)

    return answer


def url_of(number: int) -> str:
    from got_core.annotate.pictures import Picture

    return Picture(plain_picture(f"{number}.png"), config_for("http://x/v1")).data_url


def test_one_row_s_refusal_is_its_verdict(storage: Storage, undisturbed: dict[str, pl.DataFrame]) -> None:
    with ChatServer(refusing({3})) as server:
        annotate_shard(server.url, storage.url, ROWS, {})
    captions = storage.read_table("captions")
    assert captions["reason"].to_list() == [None] * 3 + ["refused"] + [None] * 4
    assert captions["error"][3].startswith("refused: HTTP 400: picture cannot be decoded")
    fine = captions.filter(pl.col("error").is_null())
    assert fine.equals(undisturbed["captions"].filter(pl.col("image_id") != "image-3"))


def test_too_many_refusals_in_a_row_stop_though_plain_requests_are_answered(storage: Storage) -> None:
    settings = {"concurrency": 1, "refusals_in_a_row": 5}
    with ChatServer(refusing(set(range(4, 40)))) as server:
        with pytest.raises(AnnotationPaused, match=r"5 requests in a row.*GOT_ANNOTATOR_REFUSALS_IN_A_ROW"):
            annotate_shard(server.url, storage.url, 40, settings)
        refused = len(server.requests)
        assert refused <= 4 * 2 + 5 * 3
        annotate_shard(server.url, storage.url, 40, {**settings, "refusals_in_a_row": 100})
    assert storage.read_table("captions")["reason"].null_count() == 4


def test_random_faults_give_the_same_tables(storage: Storage, undisturbed: dict[str, pl.DataFrame]) -> None:
    """Half of all requests fail; questions are given up at times, and the step is run again."""
    rng, lock = random.Random(3), threading.Lock()

    def answer(body: dict) -> object:
        with lock:
            bad = rng.random() < 0.5
        return web.Response(status=500) if bad else sensible(body)

    with ChatServer(answer) as server:
        for _ in range(10):
            try:
                annotate_shard(server.url, storage.url, ROWS, {"retries": 2})
            except AnnotationPaused as paused:
                assert paused.retryable and "rows got no answer, the first is image_id image-" in str(paused)
            else:
                break
    assert same(tables(storage), undisturbed)


def test_a_ledger_that_cannot_be_written_stops_the_shard(storage: Storage) -> None:
    with ChatServer() as server:
        ledger = Ledger(storage, SCOPE)
        storage.write_bytes("ledger", b"a file where its folder belongs")
        with (
            OpenAIAnnotator(config_for(server.url), ledger) as annotator,
            pytest.raises(AnnotationPaused, match="the ledger cannot be written"),
        ):
            t2i.caption_images(raw_table(3), plain_picture, annotator)
