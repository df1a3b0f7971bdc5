"""Addresses are sent byte for byte as given, also those of redirects; a real server says what arrived."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web

from got_core.corpus.config import FetchConfig, IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.fetch import fetch_all
from got_core.corpus.webaddress import web_address

from .pictures import png

CONFIG = IngestConfig(
    fetch=FetchConfig(allow_networks=("127.0.0.1/32",), attempts=1, timeout_seconds=10, max_redirects=3)
)
SIGNED = (
    "/a%27b%2Cc%28d%29%26e%3Af.png",
    "/x.png?type=image%2Fjpeg",
    "/x.png?X-Amz-Credential=a%40b%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=0aF",
    "/x.png?sig=a+b%2Bc%20d%3D%3D&se=2026-01-01T00%3a00%3a00Z",
    "/x.png?a=&b&a=1&a=2&&c==",
    "/x.png?",
    "/a;v=1/b,c/(d)/'e'!*$.png?f;g",
    "/%7Euser/~user/%41/%c3%a9.png",
    "//double//slash/./dot/../x.png",
    "/x.png?next=http://h/?q=[1]@:/",
    "/[brackets].png",
)
MENDED = {
    "/with space.png?q=a b": "/with%20space.png?q=a%20b",
    "/été/猫.png?q=é": "/%C3%A9t%C3%A9/%E7%8C%AB.png?q=%C3%A9",
    "/100%.png?q=5%&r=%zz%2": "/100%25.png?q=5%25&r=%25zz%252",
    '/<"^`{|}\\>.png': "/%3C%22%5E%60%7B%7C%7D%5C%3E.png",
    "/a\r\nX-Injected: 1.png": "/a%0D%0AX-Injected:%201.png",
    "/mixed%20 é%2F.png": "/mixed%20%20%C3%A9%2F.png",
    "/x.png?a=1#part?b=2": "/x.png?a=1",
    "?only=query": "/?only=query",
    "": "/",
}


class Recorder:
    """A server that notes the target of every request as it came in, and redirects where it should."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.redirect: str | None = None
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        assert self.started.wait(10)

    def run(self) -> None:
        self.loop.run_until_complete(self.serve())
        self.loop.run_forever()
        self.loop.run_until_complete(self.runner.cleanup())
        self.loop.close()

    async def serve(self) -> None:
        self.runner = web.ServerRunner(web.Server(self.answer))
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = self.runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.started.set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.targets.append(request.raw_path)
        if self.redirect is not None:
            location, self.redirect = self.redirect, None
            return web.Response(status=302, headers={"Location": location})
        return web.Response(body=png(1))

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    one = Recorder()
    yield one
    one.close()


def fetched(recorder: Recorder, url: str, redirect: str | None = None) -> tuple[str | None, list[str]]:
    """The reason of a failure, and the targets that the server got."""
    recorder.targets.clear()
    recorder.redirect = redirect
    [one] = fetch_all([url], CONFIG)
    return one.error.reason if one.error else None, list(recorder.targets)


@pytest.mark.parametrize("target", SIGNED)
def test_what_is_valid_is_sent_as_given(recorder: Recorder, target: str) -> None:
    assert fetched(recorder, recorder.url + target) == (None, [target])


@pytest.mark.parametrize("target", SIGNED)
@pytest.mark.parametrize("form", ["absolute", "path", "without scheme"])
def test_so_is_the_location_of_a_redirect(recorder: Recorder, target: str, form: str) -> None:
    if form == "path" and target.startswith("//"):
        target = target[1:]  # two slashes would name a host
    host = recorder.url.removeprefix("http:")
    before = {"absolute": recorder.url, "path": "", "without scheme": host}[form]
    assert fetched(recorder, f"{recorder.url}/start?s=%2F", before + target) == (
        None,
        ["/start?s=%2F", target],
    )


@pytest.mark.parametrize(("target", "sent"), MENDED.items())
def test_only_what_is_invalid_is_encoded(recorder: Recorder, target: str, sent: str) -> None:
    assert fetched(recorder, recorder.url + target) == (None, [sent])


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("x%2C.png?sig=%2B", "/a%27/x%2C.png?sig=%2B"),
        ("../x%2C.png", "/x%2C.png"),
        ("?sig=%2B", "/a%27/start?sig=%2B"),
        ("./é.png#part", "/a%27/%C3%A9.png"),
        ("a b;c", "/a%27/a%20b;c"),
    ],
)
def test_a_relative_location_goes_on_from_the_folder(recorder: Recorder, location: str, target: str) -> None:
    assert fetched(recorder, f"{recorder.url}/a%27/start?x=%2F", location)[1] == [
        "/a%27/start?x=%2F",
        target,
    ]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.2:{port}/x", "forbidden_address"),
        ("//127.0.0.2:{port}/x", "forbidden_address"),
        ("https://\uff11\uff12\uff17.0.0.2/x", "forbidden_address"),
        ("http://127\u30020\u30020\u30022/x", "forbidden_address"),
        ("http://0x7f.0.0.2/x", "forbidden_address"),
        ("http://[::ffff:127.0.0.2]/x", "forbidden_address"),
        ("http://%31%32%37.0.0.2/x", "bad_url"),
        ("http://127.0.0.1:{port}@127.0.0.2/x", "bad_url"),
        ("http://127.0.0.2\\@127.0.0.1:{port}/x", "bad_url"),
        ("http:/x", "bad_url"),
        ("ftp://127.0.0.1/x", "bad_url"),
        ("file:///etc/passwd", "bad_url"),
        ("http://127.0.0.1:99999/x", "bad_url"),
    ],
)
def test_every_hop_is_guarded_whatever_its_spelling(recorder: Recorder, location: str, reason: str) -> None:
    found = fetched(recorder, f"{recorder.url}/start", location.format(port=recorder.port))
    assert found == (reason, ["/start"])


def test_hosts_are_spelled_for_the_name_service() -> None:
    assert web_address("HTTPS://BÜCHER.example:8443/é")[:3] == ("https", "xn--bcher-kva.example", 8443)
    assert web_address("http://[2606:2800:220:1::1]:8080/x?y")[1:] == ("2606:2800:220:1::1", 8080, "/x?y")
    assert web_address("http://a_b.example:")[1:] == ("a_b.example", None, "/")


@pytest.mark.parametrize(
    "url", ["http://h/x?Signature=hunter2 \ud800", "http://me:hunter2@h/", "http://h:x/?k=hunter2"]
)
def test_errors_hold_no_secrets(url: str) -> None:
    with pytest.raises(ImageError, match="bad_url") as caught:
        web_address(url)
    assert "hunter2" not in str(caught.value)
