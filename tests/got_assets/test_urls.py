"""A table of URLs through `make run`: what failed is asked again in the next run, the rest is not."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from got_core import recipes
from got_core.corpus.config import FetchConfig
from tests.got_core.corpus.pictures import png

from .conftest import Graph


class Web(ThreadingHTTPServer):
    """Numbered pictures; those in `broken` answer 503. `asked` counts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.broken: set[str] = set()

    def address(self, number: int) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{number}"


class Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        broken = self.path in self.server.broken
        self.send_response(503 if broken else 200)
        self.end_headers()
        if not broken:
            self.wfile.write(png(int(self.path[1:])))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def table(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table of six addresses and one that is refused, which the recipe `near` may ask."""
    fetch = FetchConfig(allow_networks=("127.0.0.1/32",), attempts=1)
    tiny = recipes.tiny()
    ingest = dataclasses.replace(tiny.ingest, fetch=fetch)
    monkeypatch.setitem(recipes.RECIPES, "near", lambda: dataclasses.replace(tiny, ingest=ingest))
    addresses = [web.address(number) for number in range(6)]
    refused = "http://10.0.0.1/x.png"
    pl.DataFrame({"url": [*addresses, refused]}).write_csv(tmp_path / "urls.csv")
    web.broken = {"/0", "/1", "/2"}
    return str(tmp_path / "urls.csv")


def test_the_sensor_has_what_failed_asked_again_at_longer_intervals(
    load: Callable[..., Graph], web: Web, table: str
) -> None:
    from got_assets.defs.ingest.upkeep import Upkeep

    graph = load(raw=table, recipe="near")
    graph.run.assign_shards(graph.project, graph.instance)
    tried, tries = [time.time()], []

    def requested(after: float) -> list[str]:
        """What is asked for so long after the last try."""
        upkeep = Upkeep(graph.instance, graph.run.defs.get_repository_def(), graph.project)
        requests, _ = upkeep.requests(tried[-1] + after)
        for one in requests:
            job = graph.run.defs.resolve_job_def(one.job_name)
            job.execute_in_process(
                instance=graph.instance, partition_key=one.partition_key, tags=one.tags,
                asset_selection=one.asset_selection, run_config=graph.run.QUIET, raise_on_error=False,
            )  # fmt: skip
            tries.append(one.run_key)
            tried.append(time.time())
        return [one.tags["got/why"] for one in requests]

    assert requested(0) == ["missing"]
    assert requested(60) == ["3 URLs to ask again"] and requested(60) == []
    web.broken = {"/2"}
    assert requested(400) == ["3 URLs to ask again"] and requested(500) == []
    web.broken = set()
    assert requested(700) == ["1 URLs to ask again"]
    assert requested(710) == ["missing"], "the check holds now, so that the rest can be made"
    assert len({*tries}) == 5 and graph.storage.read_table("raw_images/images-00000").height == 7


def test_the_next_run_asks_for_what_failed(load: Callable[..., Graph], web: Web, table: str) -> None:
    graph = load(raw=table, recipe="near")
    runner = graph.run.Runner(graph.project, graph.instance)

    def run() -> tuple[list[str], dict[str | None, int]]:
        web.asked.clear()
        graph.run.make_data(runner)
        reasons = graph.storage.read_table("raw_images/images-00000")["reason"]
        return sorted(web.asked), dict(reasons.value_counts().iter_rows())

    assert run() == ([f"/{k}" for k in range(6)], {None: 3, "http_error": 3, "forbidden_address": 1})
    web.broken = {"/2"}
    assert run() == (["/0", "/1", "/2"], {None: 5, "http_error": 1, "forbidden_address": 1})
    assert runner.outcomes["images-00000"].made == ["raw_images"]
    web.broken = set()
    assert run() == (["/2"], {None: 6, "forbidden_address": 1})
    assert run() == ([], {None: 6, "forbidden_address": 1})
    assert runner.outcomes["images-00000"].made == []
