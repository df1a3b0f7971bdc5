"""Pictures from tables of URLs, against a real server on this machine: manners, limits, refusals."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from multidict import CIMultiDict

from got_core.corpus.addresses import ForbiddenAddress, PublicResolver, is_allowed, networks
from got_core.corpus.config import FetchConfig, IngestConfig
from got_core.corpus.fetch import fetch_all, opted_out
from got_core.corpus.ingest import ImageReader, ingest_images
from got_core.corpus.shards import assign_image_shards
from got_core.storage import Storage

from .pictures import png

LIMIT = 100_000


class Handler(BaseHTTPRequestHandler):
    """Each path is one kind of server behaviour."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests[self.path] += 1
            self.server.active += 1
            self.server.most = max(self.server.most, self.server.active)
        try:
            name = self.path.strip("/").partition("/")[0]
            getattr(self, f"serve_{name}")()
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.server.lock:
                self.server.active -= 1

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int = 200, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def serve_png(self) -> None:
        time.sleep(0.01)
        self.answer(data=png(int(self.path.rpartition("/")[2])))

    def serve_flaky(self) -> None:
        if self.server.requests[self.path] < 3:
            self.answer(503, Retry_After="0")
        else:
            self.answer(data=png(90))

    def serve_busy(self) -> None:
        self.answer(429, Retry_After="3600")

    def serve_status(self) -> None:
        self.answer(int(self.path.rpartition("/")[2]))

    def serve_later(self) -> None:
        self.answer(data=png(91)) if self.server.repaired else self.answer(404)

    def serve_to(self) -> None:
        self.answer(302, Location=self.server.targets[self.path.rpartition("/")[2]])

    def serve_noai(self) -> None:
        self.answer(data=png(92), X_Robots_Tag="noarchive, noai")

    def serve_gzip(self) -> None:
        self.answer(data=png(93), Content_Encoding="gzip")

    def serve_gigabyte(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(1024**3))
        self.end_headers()
        self.stream()

    def serve_endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.stream()

    def stream(self) -> None:
        for _ in range(16 * 1024):
            self.wfile.write(bytes(64 * 1024))
            self.server.sent += 64 * 1024

    def serve_slow(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "50000")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def serve_cut(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "50000")
        self.end_headers()
        self.wfile.write(b"x")
        self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.requests, self.active, self.most, self.sent = threading.Lock(), Counter(), 0, 0, 0
        self.repaired = False
        port = self.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        self.targets = {
            "picture": "/png/5",
            "loopback": f"http://127.0.0.2:{port}/png/1",
            "name": f"http://localhost:{port}/png/1",
            "mapped": f"http://[::ffff:127.0.0.2]:{port}/png/1",
            "metadata": "http://169.254.169.254/latest/meta-data/",
            "file": "file:///etc/passwd",
            "circle": "/to/circle",
        }


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield one
    one.shutdown()
    one.server_close()
    thread.join()


def config(**fetch: Any) -> IngestConfig:
    """Only 127.0.0.1 itself is allowed: every other private address stays forbidden."""
    given = {"allow_networks": ("127.0.0.1/32",), "timeout_seconds": 5.0, "backoff_seconds": 0.01, **fetch}
    return IngestConfig(max_bytes=LIMIT, workers=2, fetch=FetchConfig(**given))


def reason_of(url: str, settings: IngestConfig) -> str | None:
    [one] = fetch_all([url], settings)
    assert (one.data is None) == (one.error is not None)
    return one.error.reason if one.error else None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/png/1",
        "http://localhost:{port}/png/1",
        "http://[::1]:{port}/png/1",
        "http://[::ffff:127.0.0.1]:{port}/png/1",
        "http://0.0.0.0:{port}/png/1",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/x",
    ],
)
def test_private_addresses_are_refused_without_a_request(server: Server, url: str) -> None:
    address = url.format(port=server.server_address[1])
    assert reason_of(address, config(allow_networks=())) == "forbidden_address"
    assert not server.requests


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0177.0.0.1", "0x7f.0.0.1", "127.0.0.1."])
def test_odd_spellings_of_loopback_do_not_pass(server: Server, host: str) -> None:
    address = f"http://{host}:{server.server_address[1]}/png/1"
    assert reason_of(address, config(allow_networks=())) == "forbidden_address"
    assert not server.requests


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("picture", None),
        ("loopback", "forbidden_address"),
        ("name", None),
        ("mapped", "forbidden_address"),
        ("metadata", "forbidden_address"),
        ("file", "bad_url"),
        ("circle", "too_many_redirects"),
    ],
)
def test_every_redirect_is_checked(server: Server, target: str, expected: str | None) -> None:
    allowed = ("127.0.0.1/32", "::1/128") if target == "name" else ("127.0.0.1/32",)
    assert reason_of(f"{server.url}/to/{target}", config(allow_networks=allowed)) == expected
    assert server.requests["/png/1"] == (1 if target == "name" else 0)


def test_a_name_with_one_private_address_among_several_is_refused() -> None:
    class Two:
        async def resolve(self, *_: Any) -> list[dict]:
            return [{"host": "93.184.216.34"}, {"host": "10.0.0.7"}]

    async def resolve() -> None:
        resolver = PublicResolver(())
        resolver._inner = Two()  # type: ignore[assignment]
        await resolver.resolve("rebinding.example")

    with pytest.raises(ForbiddenAddress, match=r"10\.0\.0\.7"):
        asyncio.run(resolve())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("192.168.1.1", False), ("100.64.0.1", False),
        ("fe80::1%eth0", False), ("fd00:ec2::254", False), ("168.63.129.16", False), ("224.0.0.1", False),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("::", False), ("not an address", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_allowed(address) is public
    assert is_allowed("10.1.2.3", networks(["10.1.0.0/16"])) and not is_allowed("10.2.2.3")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("png/1", None), ("gigabyte", "too_large"), ("endless", "too_large"), ("noai", "opted_out"),
        ("gzip", "bad_response"), ("cut", "bad_response"), ("status/404", "http_error"),
        ("busy", "http_error"),
    ],
)  # fmt: skip
def test_each_kind_of_answer(server: Server, path: str, expected: str | None) -> None:
    assert reason_of(f"{server.url}/{path}", config()) == expected
    if expected == "too_large":
        assert server.sent < 32 * 1024**2
    assert server.requests[f"/{path}"] == (3 if path == "cut" else 1)


def test_a_slow_answer_ends_at_the_time_limit(server: Server) -> None:
    assert reason_of(f"{server.url}/slow", config(timeout_seconds=0.3, attempts=1)) == "timed_out"


@pytest.mark.parametrize(
    "url", ["ftp://example.org/x", "nonsense", "http://", "http://user:hunter2@127.0.0.1/x"]
)
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    [one] = fetch_all([url], config())
    assert one.error and one.error.reason == "bad_url" and "hunter2" not in str(one.error)


def test_a_host_is_asked_by_few_at_once_and_retried(server: Server) -> None:
    urls = [f"{server.url}/png/{index}" for index in range(20)] + [f"{server.url}/flaky"]
    found = {one.url: one for one in fetch_all(urls, config(per_host=2))}
    assert found.keys() == set(urls) and all(one.error is None for one in found.values())
    assert server.most <= 2
    assert server.requests["/flaky"] == 3


def test_a_dead_host_is_given_up_for_the_run(server: Server) -> None:
    urls = [f"{server.url}/status/{index}/500" for index in range(12)]
    found = list(fetch_all(urls, config(attempts=1, per_host=1, give_up_host_after=3)))
    assert sum(server.requests.values()) == 3
    assert Counter(one.error.reason for one in found if one.error)["unreachable"] == 9


def test_leaving_early_ends_the_requests(server: Server) -> None:
    urls = [f"{server.url}/png/{index}" for index in range(200)]
    results = fetch_all(urls, config(concurrency=2))
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "fetch"], "no thread is left"
    time.sleep(0.3)  # requests on their way may still be counted
    assert sum(server.requests.values()) < 50


@pytest.mark.parametrize(
    ("values", "out"),
    [
        (["noai"], True), (["all", "NoImageAI"], True), (["googlebot: noindex"], False), (["noindex"], True),
        (["got-ingest: noindex, nofollow"], True), (["somebot: noai"], True), (["noarchive, none"], False),
        (["unavailable_after: 25 Jun 2030"], False), ([], False),
    ],
)  # fmt: skip
def test_opt_out_headers(values: list[str], out: bool) -> None:
    headers = CIMultiDict([("x-robots-tag", value) for value in values])
    assert (opted_out(headers, FetchConfig()) is not None) is out
    assert opted_out(CIMultiDict({"tdm-reservation": "1"}), FetchConfig())


def test_only_failed_urls_are_asked_again(server: Server, tmp_path: Path, storage: Storage) -> None:
    urls = [f"{server.url}/{name}" for name in ("png/0", "png/1", "png/2", "later", "noai")]
    table = pl.DataFrame({"URL": [*urls, None, urls[0]], "licence": ["CC0-1.0", *[None] * 6]})
    table.write_csv(tmp_path / "urls.csv")
    table.write_parquet(tmp_path / "urls.parquet")
    raw, settings = str(tmp_path / "urls.csv"), config()
    [shard] = assign_image_shards(storage, raw, settings)
    assert assign_image_shards(storage, str(tmp_path / "*.parquet"), settings)[1:] == ["images-00001"]
    first = ingest_images(storage, raw, shard, settings)
    bad = dict(first.filter(pl.col("error").is_not_null()).select("path", "reason").iter_rows())
    assert bad == {urls[3]: "http_error", urls[4]: "opted_out", "urls.csv#6": "incomplete_row"}
    good = {row["paths"][0]: row for row in first.rows(named=True) if row["error"] is None}
    assert good[urls[0]]["licence"] == "CC0-1.0" and good[urls[1]]["licence"] is None
    reader = ImageReader(raw, settings, store_url=storage.url)
    assert reader.read_bytes(good[urls[2]]["path"]) == png(2)

    server.requests.clear()
    server.repaired = True
    again = ingest_images(storage, raw, shard, settings)
    assert server.requests.keys() == {"/later", "/noai"}
    assert again.filter(pl.col("error").is_null()).height == 4
    server.requests.clear()
    ingest_images(storage, raw, shard, settings)
    assert server.requests.keys() == {"/noai"}
    storage.delete("stored_images")
    server.requests.clear()
    ingest_images(storage, raw, shard, settings)
    assert sum(server.requests.values()) == 5, "bytes that are gone are fetched again"


def test_an_interrupted_shard_does_not_ask_again_for_what_it_has(
    server: Server, tmp_path: Path, storage: Storage
) -> None:
    urls = [f"{server.url}/png/{index}" for index in range(30)]
    pl.DataFrame({"url": urls}).write_csv(tmp_path / "urls.csv")
    raw, settings = str(tmp_path / "urls.csv"), config(concurrency=2)
    [shard] = assign_image_shards(storage, raw, settings)

    def stop(done: int, _: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest_images(storage, raw, shard, settings, progress=stop)
    kept = sum(storage.read_table(name.removesuffix(".parquet")).height for name in storage.list("fetched/"))
    assert kept >= 12
    server.requests.clear()
    frame = ingest_images(storage, raw, shard, settings)
    assert frame["error"].is_null().all() and frame["paths"].explode().n_unique() == 30
    assert sum(server.requests.values()) == 30 - kept
