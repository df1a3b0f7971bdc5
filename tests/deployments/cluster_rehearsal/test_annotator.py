"""The rehearsal's annotator: who is answered, and what counts as asked again."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from deployments.cluster_rehearsal import annotator
from deployments.cluster_rehearsal.annotator import Remembering
from got_core.annotate.prompt_files import prompt

KEY = {"Authorization": "Bearer it"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remembering]:
    monkeypatch.setattr(annotator, "SECONDS", 0.0)
    with Remembering("127.0.0.1", 0, "it") as made:
        yield made


def body(caption: str) -> bytes:
    text = prompt("t2i_entities").text.replace("$caption", caption)
    return json.dumps({"messages": [{"role": "user", "content": text}]}).encode()


def ask(server: Remembering, caption: str, **headers: str) -> int:
    request = urllib.request.Request(f"{server.url}/chat/completions", body(caption), KEY | headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def figures(server: Remembering) -> dict[str, int]:
    url = server.url.replace("/v1", "/figures")
    with urllib.request.urlopen(urllib.request.Request(url, headers=KEY), timeout=60) as answer:
        return json.load(answer)


def test_what_is_asked_again_is_counted(server: Remembering) -> None:
    for caption in ("a red disc", "a red disc", "a blue square"):
        while ask(server, caption) == 503:  # it is busy now and then, as servers are
            pass
    assert figures(server) == {"answered": 3, "again": 1, "lost": 0}


def test_nobody_without_the_key_is_answered(server: Remembering) -> None:
    assert ask(server, "a red disc", Authorization="Bearer other") == 401
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(server.url.replace("/v1", "/figures"), timeout=60)
    assert figures(server)["answered"] == 0


def test_an_answer_that_nobody_takes_any_more_is_none(
    server: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = threading.Event()
    respond = server.respond
    monkeypatch.setattr(server, "respond", lambda given: left.wait(60) and respond(given))
    data = body("a green disc")
    url = urllib.parse.urlsplit(server.url)
    head = ["POST /v1 HTTP/1.1", f"Authorization: {KEY['Authorization']}", f"Content-Length: {len(data)}"]
    with socket.create_connection((str(url.hostname), int(url.port or 0))) as one:
        one.sendall("\r\n".join([*head, "", ""]).encode() + data)
    left.set()
    until = time.monotonic() + 60
    while not figures(server)["lost"]:
        assert time.monotonic() < until
    assert figures(server)["answered"] == 0
