"""What arrives together is drawn together; what is too much is refused; a moved alias is swapped in."""

from __future__ import annotations

import asyncio
import base64
import gc
import http.client
import json
import socket
import threading
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest

from got_core.registry.log import register
from got_core.registry.request import Params, Row
from got_core.registry.standing import CHAMPION
from got_core.registry.tracking import connect, fluent
from got_core.serving import engine
from got_core.serving.context import EventStream
from got_core.serving.errors import ApiError
from got_core.serving.images_api import _until
from tests.got_core.pictures.awkward import encode, halves
from tests.got_core.serving.served import Served, served

BODY = {"prompt": "a star", "chain": "a red circle (100,100),(400,400)"}


class Held:
    """Drawing that waits until it is let go, and notes how many pictures each call had."""

    def __init__(self, pipeline: Any, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[int] = []
        self.begun, self.go = threading.Event(), threading.Event()
        draw = type(pipeline).draw

        def waiting(chains: Any, *rest: Any, **options: Any) -> Any:
            self.calls.append(len(chains))
            self.begun.set()
            assert self.go.wait(60)
            return draw(pipeline, chains, *rest, **options)

        patch.setattr(pipeline, "draw", waiting)


def until(condition: Any) -> None:
    """Wait until something that another thread does has happened."""
    moment = threading.Event()
    for _ in range(6000):
        if condition():
            return
        moment.wait(0.01)
    raise AssertionError("it never happened")


def waiting_pictures(server: Served) -> int:
    return server.serving.engine._count()


def test_requests_that_wait_are_drawn_in_one_call(
    server: Served, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [server.ask("/v1/got/draw", BODY | {"seed": seed})[1] for seed in range(5)]
    held = Held(pipeline, monkeypatch)
    others = [BODY | {"num_inference_steps": 1}]
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(server.ask, "/v1/got/draw", BODY | {"seed": 0})
        assert held.begun.wait(60)
        rest = [pool.submit(server.ask, "/v1/got/draw", BODY | {"seed": seed}) for seed in range(1, 5)]
        unlike = [pool.submit(server.ask, "/v1/got/draw", body) for body in others]
        until(lambda: waiting_pictures(server) == 5)
        held.go.set()
        answers = [one.result() for one in (first, *rest)]
        assert {one.result()[0] for one in unlike} == {200}
    assert sorted(held.calls) == [1, 1, 4]
    assert [status for status, _ in answers] == [200] * 5
    for (_, answer), before in zip(answers, alone, strict=True):
        assert answer["pictures"][0]["seed"] == before["pictures"][0]["seed"]
    assert answers[0][1]["pictures"] == alone[0]["pictures"]
    _, text, _ = server.raw("/metrics")
    assert b"got_joined_requests_total 4.0" in text and b"got_queue_pictures 0.0" in text


def test_more_than_may_wait_is_refused_with_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(str(folder), queue=4) as server:
        held = Held(server.serving.slot.current.drawer.pipeline, monkeypatch)
        with ThreadPoolExecutor(8) as pool:
            first = pool.submit(server.ask, "/v1/got/draw", BODY)
            assert held.begun.wait(60)
            two = [pool.submit(server.ask, "/v1/got/draw", BODY | {"n": 2}) for _ in range(2)]
            until(lambda: waiting_pictures(server) == 4)
            status, _, headers = server.raw("/v1/got/draw", BODY)
            assert status == 429 and int(headers["Retry-After"]) >= 1
            streamed = server.raw("/v1/got/draw", BODY | {"stream": True})
            assert streamed[0] == 429, "said before any event is sent"
            assert server.raw("/v1/images/generations", {"prompt": "a", "stream": True})[0] == 429
            held.go.set()
            assert {one.result()[0] for one in (first, *two)} == {200}
        assert server.ask("/v1/got/draw", BODY)[0] == 200, "afterwards there is room again"
        assert server.ask("/v1/got/draw", BODY | {"n": 5})[0] == 400, "for which there is never room"


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/got/plan", {"prompt": "a star"}),
        ("/v1/got/draw", BODY),
        ("/v1/got/draw", BODY | {"stream": True}),
        ("/v1/images/generations", {"prompt": "a star"}),
        ("/v1/images/generations", {"prompt": "a star", "stream": True}),
    ],
)
def test_a_client_that_goes_away_takes_its_job_along(
    path: str, fields: dict[str, Any], server: Served, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(pipeline, monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.ask, "/v1/got/draw", BODY)
        assert held.begun.wait(60)
        leaving = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        leaving.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
        until(lambda: waiting_pictures(server) == 1)
        leaving.close()
        until(lambda: waiting_pictures(server) == 0)
        assert b"got_queue_pictures 0.0" in server.raw("/metrics")[1]
        held.go.set()
        assert first.result()[0] == 200
    assert held.calls == [1]


def test_work_ends_though_no_event_was_asked_for() -> None:
    async def left_before_the_first_event() -> bool:
        async def events() -> AsyncIterator[bytes]:
            yield b"never asked for"

        async def gone() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await asyncio.sleep(60)

        work = asyncio.ensure_future(asyncio.sleep(60))
        await EventStream(events(), work)({"type": "http"}, gone, send)
        await asyncio.wait({work})
        return work.cancelled()

    assert asyncio.run(left_before_the_first_event())


def test_nothing_waits_for_comments_of_a_stream_that_was_left() -> None:
    async def left() -> set[asyncio.Task[Any]]:
        work = asyncio.ensure_future(asyncio.sleep(60))
        comment = asyncio.ensure_future(anext(_until(work, asyncio.Queue())))
        await asyncio.sleep(0.01)
        comment.cancel()
        await asyncio.wait({comment})
        await asyncio.sleep(0)
        return asyncio.all_tasks() - {work, asyncio.current_task()}

    assert asyncio.run(left()) == set()


@pytest.mark.parametrize(
    ("path", "kind", "begin"),
    [
        ("/v1/images/edits", "multipart/form-data; boundary=b", "--b"),
        ("/v1/images/generations", "application/json", '{"prompt": "a st'),
    ],
)
def test_a_client_that_goes_away_while_it_sends_is_no_fault_of_the_server(
    path: str, kind: str, begin: str, server: Served
) -> None:
    def counted() -> list[int]:
        requests = server.serving.metrics.requests
        return [int(requests.labels(path, status)._value.get()) for status in ("499", "400", "500")]

    before = counted()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as leaving:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        leaving.sendall(f"{head}Content-Type: {kind}\r\n\r\n{begin}".encode())
    until(lambda: counted() != before)
    assert counted() == [before[0] + 1, *before[1:]]


def job(**params: Any) -> engine.Job:
    row = Row(number=0, prompt="a star", seed=0, chain=None, source=None)
    return engine.Job([row], Params(settings={}, **params))


@dataclass
class Noted:
    """A meter that keeps the lengths of the queue."""

    lengths: list[int] = field(default_factory=list)

    def drawn(self, jobs: int, pictures: int, seconds: float) -> None: ...

    def waiting(self, pictures: int) -> None:
        self.lengths.append(pictures)


def test_nothing_waits_in_a_stopped_engine(server: Served) -> None:
    meter = Noted()
    stopped = engine.Engine(server.serving.slot, most_waiting=8, gather=0.0, meter=meter)
    future = stopped.submit(job())
    stopped.stop()
    assert meter.lengths == [1, 0]
    with pytest.raises(ApiError, match="being stopped"):
        future.result(0)


def test_nothing_is_gathered_for_a_job_that_has_left(server: Served) -> None:
    gathering = engine.Engine(server.serving.slot, most_waiting=10**7, gather=3600.0, meter=Noted())
    first = gathering.submit(job())
    second = gathering.submit(job(plan_only=True, images=10**6))  # fills a call: needs no others
    gathering.start()
    try:
        assert first.cancel()
        (made,) = second.result(60)
        assert made.plan.chain is not None
    finally:
        gathering.stop()


def test_a_job_leaves_memory_with_its_answer(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, submit = [], server.serving.engine.submit

    def noted(job: engine.Job) -> Any:
        jobs.append(weakref.ref(job))
        return submit(job)

    monkeypatch.setattr(server.serving.engine, "submit", noted)
    gc.disable()
    try:
        for path in ("/v1/got/draw", "/v1/images/generations"):
            for stream in (False, True):
                assert server.raw(path, {"prompt": "a star", "stream": stream})[0] == 200
        until(lambda: not any(one() for one in jobs))
    finally:
        gc.enable()
    assert len(jobs) == 4


def test_pictures_to_edit_wait_only_as_far_as_memory_goes(
    server: Served, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MOST_PIXELS", 2 * 64 * 64)
    held = Held(pipeline, monkeypatch)
    source = base64.b64encode(encode(halves(size=(64, 64)), "PNG")).decode()
    body = BODY | {"image": source}
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(server.ask, "/v1/got/draw", body)
        assert held.begun.wait(60)
        two = [pool.submit(server.ask, "/v1/got/draw", body) for _ in range(2)]
        until(lambda: waiting_pictures(server) == 2)
        status, answer = server.ask("/v1/got/draw", body)
        assert status == 429 and "8192 pixels of pictures sent" in answer["error"]["message"]
        new = pool.submit(server.ask, "/v1/got/draw", BODY)
        until(lambda: waiting_pictures(server) == 3)
        held.go.set()
        assert {one.result()[0] for one in (first, *two, new)} == {200}


def test_one_request_at_fault_does_not_cost_the_others(
    server: Served, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, draw = Held(pipeline, monkeypatch), pipeline.draw

    def choosy(chains: Any, prompts: Any, *rest: Any, **options: Any) -> Any:
        images = draw(chains, prompts, *rest, **options)
        if "bad" in prompts:
            raise ValueError("`prompt` is bad")
        if "broken" in prompts:
            raise RuntimeError("the network is broken")
        return images

    monkeypatch.setattr(pipeline, "draw", choosy)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(server.ask, "/v1/got/draw", BODY)
        assert held.begun.wait(60)
        rest = {
            name: pool.submit(server.ask, "/v1/got/draw", BODY | {"prompt": name})
            for name in ("good", "bad", "broken", "fine")
        }
        until(lambda: waiting_pictures(server) == 4)
        held.go.set()
        statuses = {name: one.result()[0] for name, one in rest.items()}
    assert first.result()[0] == 200
    assert statuses == {"good": 200, "bad": 400, "broken": 500, "fine": 200}
    assert server.ask("/ready")[1]["status"] == "ready"


@pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
@pytest.mark.filterwarnings("ignore::UserWarning:pydantic.*")
def test_a_moved_alias_is_swapped_in_without_a_failed_request(folder: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = connect(uri)
    register(folder, tracking_uri=uri, tags={"weights_hash": "w1"})
    first = client.get_model_version("got", "1")
    with fluent(uri):
        for weights in ("w2", "w3"):  # of the same upload: what is served is told by its version
            mlflow.register_model(first.source, "got", tags={"weights_hash": weights})
    client.set_registered_model_alias("got", CHAMPION, "1")
    with served(f"models:/got@{CHAMPION}", uri, watch=0.05) as server:
        names: list[tuple[int, str]] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                status, answer = server.ask("/v1/got/draw", BODY | {"seed": 1})
                names.append((status, answer.get("model", "")))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: (200, "models:/got/1") in names)
            client.set_registered_model_alias("got", CHAMPION, "2")
            until(lambda: (200, "models:/got/2") in names)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert {status for status, _ in names} == {200}
        assert server.ask("/ready")[1]["model"] == "models:/got/2"
        # A version whose files are damaged, which are those of the old one: that goes on, and says why.
        for file in (tmp_path / "artifacts").rglob("unet/*.safetensors"):
            file.write_bytes(b"damaged")
        client.set_registered_model_alias("got", CHAMPION, "3")
        until(lambda: server.ask("/ready")[1]["behind"])
        status, answer = server.ask("/v1/got/draw", BODY)
        assert (status, answer["model"]) == (200, "models:/got/2")
        assert b"got_model_behind 1.0" in server.raw("/metrics")[1]
        watcher = server.serving.slot._watcher
    # It may still be loading, and libraries patch torch for all threads while they do: other tests load, too.
    watcher.join(60)
    assert not watcher.is_alive()
