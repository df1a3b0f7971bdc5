"""The data part of the graph while its model server and its S3 store fail: it heals, or says one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from aiohttp import web
from PIL import Image

from got_core.filesystems import StoreUnavailableError
from got_core.storage import Storage
from tests.faults import answers
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Clock, Cut, Fault
from tests.got_core.annotate.chat_server import ChatServer, name_of, sensible

from .conftest import Graph

SHARD = "images-00000"
TABLES = ("raw_images", "captions", "entities", "boxes", "t2i_chains", "t2i_selection", "t2i_training_shards")
ROWS = 6


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Pictures of the user's own."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in range(ROWS):
        picture = Image.new("RGB", (160, 120), (40 * number, 250 - 40 * number, 90))
        picture.paste((250, 250, 20 * number), (10 * number, 10, 10 * number + 30, 60))
        picture.save(folder / f"{number}.png")
    return folder


@pytest.fixture
def own(load: Callable[..., Graph], raw: Path, tmp_path: Path) -> Callable[..., Graph]:
    """The graph over these pictures, with a model server at a URL and a history of its own."""

    def made(name: str, url: str, **settings: str) -> Graph:
        usual = {
            "raw": str(raw), "annotator": "openai", "annotator_url": url, "annotator_vision_model": "eyes",
            "annotator_text_model": "words", "annotator_box_unit": "thousandths", 
            "home": str(tmp_path / name),
        }  # fmt: skip
        return replace(load(**(usual | settings)), instance=dg.DagsterInstance.ephemeral())

    return made


def tables(storage: Storage) -> dict[str, pl.DataFrame]:
    """What was made of the shard, without where it lies and when it was listed."""
    found = {name: storage.read_table(f"{name}/{SHARD}") for name in TABLES}
    assert found["t2i_chains"]["error"].null_count() == ROWS
    return found


def made_again(graph: Graph, wanted: dict[str, pl.DataFrame], *but: str) -> None:
    """Nothing is wrong any more: all is made, as without faults, and a further run makes nothing."""
    graph.make_data()
    assert not any(one.error or one.blocked for one in graph.outcomes.values()), graph.outcomes
    found = tables(graph.storage)
    assert not [name for name in {*TABLES} - {*but} if not found[name].equals(wanted[name])]
    assert not any(graph.make_data().values())


@pytest.fixture
def undisturbed(own: Callable[..., Graph]) -> dict[str, pl.DataFrame]:
    """The tables without any fault."""
    with ChatServer() as server:
        graph = own("undisturbed", server.url)
        graph.make_data()
    assert not any(one.error or one.blocked for one in graph.outcomes.values()), graph.outcomes
    return tables(graph.storage)


@pytest.mark.parametrize("times", [1, 15])
def test_a_server_that_refuses_everything_for_a_while_heals_by_itself(
    own: Callable[..., Graph],
    undisturbed: dict[str, pl.DataFrame],
    fault_proxy: Callable[..., FaultProxy],
    times: int,
) -> None:
    with ChatServer() as server:
        proxy = fault_proxy(server.url)
        rule = proxy.add(answers.BAD_REQUEST, times=times)
        graph = own("home", proxy.url)
        graph.make_data()
        assert rule.used == times
        made_again(graph, undisturbed)


@pytest.mark.parametrize(
    ("fault", "said", "most"),
    [
        (answers.BAD_REQUEST, "refuses plain requests too, so this is no verdict on any row", 60),
        (answers.UNAUTHORIZED, "HTTP 401: the API key is refused", ROWS),
        (answers.NO_MODEL, "HTTP 404: no such URL or model", ROWS),
    ],
    ids=["400", "401", "404"],
)
def test_a_server_that_refuses_for_good_fails_the_step_and_nothing_is_stored(
    own: Callable[..., Graph],
    undisturbed: dict[str, pl.DataFrame],
    fault_proxy: Callable[..., FaultProxy],
    fault: Fault,
    said: str,
    most: int,
) -> None:
    with ChatServer() as server:
        proxy = fault_proxy(server.url)
        proxy.add(fault)
        graph = own("home", proxy.url)
        graph.make_data()
        assert said in graph.paused.message and graph.outcomes[SHARD].waits
        assert not graph.storage.exists(f"captions/{SHARD}.parquet")
        assert 0 < len(proxy.seen) <= most
        proxy.clear()
        made_again(graph, undisturbed)


@pytest.mark.parametrize("all_of_them", [True, False])
def test_faults_that_an_older_version_stored_are_asked_again(
    own: Callable[..., Graph],
    undisturbed: dict[str, pl.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
    all_of_them: bool,
) -> None:
    from got_core.annotate.dispatch import Dispatcher

    async def unproven(self: Any, request: Any, body: dict[str, Any], meter: Any) -> Any:
        return await self._client.complete(request.url, body, meter)

    refused: list[str] = []

    def answer(body: dict[str, Any]) -> Any:
        name = name_of(body)
        if all_of_them or not refused or name in refused:
            refused.append(name)
            return web.Response(status=400, text="the model is being loaded")
        return sensible(body)

    with ChatServer(answer) as server:
        graph = own("home", server.url)
        with monkeypatch.context() as older:
            older.setattr(Dispatcher, "_complete", unproven)
            graph.make_data()
        captions = graph.storage.read_table(f"captions/{SHARD}")
        assert captions["reason"].drop_nulls().to_list() == ["refused"] * (ROWS if all_of_them else 1)
        assert bool(graph.outcomes[SHARD].failed) == all_of_them, "a shard with few bad rows goes on"
        answered = len(server.requests) - len(refused)
        server.answer = sensible
        if all_of_them:
            made_again(graph, undisturbed)
        else:
            assert not any(graph.make_data().values())
            retry = import_module("got_assets.retry").retry
            assert retry(graph.project, graph.instance) == 0
            assert len(server.requests) - len(refused) == ROWS * 4
            assert answered == (ROWS - 1) * 4, "what was answered is not asked again"
            before = len(server.requests)
            assert retry(graph.project, graph.instance) == 0 and len(server.requests) == before
            made_again(graph, undisturbed, "t2i_training_shards")  # a late sample lies in a tar of its own


@pytest.mark.parametrize(
    "fault", [answers.EXPIRED_TOKEN, answers.ACCESS_DENIED, Clock(3600)], ids=["token", "denied", "clock"]
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_store_that_refuses_ends_the_run_with_one_sentence(
    own: Callable[..., Graph],
    undisturbed: dict[str, pl.DataFrame],
    faulty_s3: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    method: str,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with ChatServer() as server:
        url = f"s3://{faulty_s3.bucket}/store"
        graph = own("home", server.url, storage=url, s3_endpoint=faulty_s3.url)
        rule = faulty_s3.add(fault, method=method, path="store/(captions|raw_images)")
        with pytest.raises(StoreUnavailableError, match=r"GOT_S3_ENDPOINT.*run it again"):
            graph.make_data()
        assert rule.used <= 2, "what nobody has changed is not tried again"
        faulty_s3.clear()
        made_again(graph, undisturbed)
        assert len(server.requests) == len(set(server.requests)), "nothing that was answered is asked again"


@pytest.mark.parametrize("fault", [answers.SLOW_DOWN, Cut(), Cut(0)], ids=["busy", "cut", "no answer"])
def test_a_store_that_fails_for_a_while_heals_by_itself(
    own: Callable[..., Graph],
    undisturbed: dict[str, pl.DataFrame],
    faulty_s3: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with ChatServer() as server:
        url = f"s3://{faulty_s3.bucket}/store"
        graph = own("home", server.url, storage=url, s3_endpoint=faulty_s3.url)
        rules: list[Any] = [
            faulty_s3.add(fault, method="PUT", path=f"store/{name}", times=7)
            for name in ("captions", "boxes", "t2i_training_shards")
        ]
        made_again(graph, undisturbed)
    assert [rule.used for rule in rules] == [7] * 3
    if fault is answers.SLOW_DOWN:  # the others have healed within the client
        assert "tried again in" in capsys.readouterr().out
