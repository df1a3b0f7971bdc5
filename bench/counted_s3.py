"""A real S3 server on loopback that counts its requests, by method and first folders of the key.

moto's server with a counter before it, in a process of its own: `python -m bench.counted_s3` prints the URL
and serves until its input ends. `GET /_counts` answers what was counted since the last time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from moto.server import ThreadedMotoServer

COUNTS = "/_counts"


@contextlib.contextmanager
def counted_s3() -> Iterator[str]:
    """URL of a server that counts requests."""
    command = [sys.executable, "-m", "bench.counted_s3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def counts(url: str) -> Counter[str]:
    """Requests since this was last asked: `GET raw`, `LIST got/raw_images` and their numbers."""
    with urllib.request.urlopen(url + COUNTS) as answer:
        return Counter(json.load(answer))


class Counting:
    """A WSGI application that counts what it passes on."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._counts = inner, Counter[str]()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == COUNTS:
            found, self._counts = self._counts, Counter()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(found).encode()]
        self._counts[_kind(environ)] += 1
        return self._inner(environ, start_response)


def _kind(environ: dict[str, Any]) -> str:
    """Method, or LIST, and at most two folders below the bucket."""
    query = parse_qs(environ.get("QUERY_STRING", ""))
    method = "LIST" if "list-type" in query else environ["REQUEST_METHOD"]
    key = (
        query.get("prefix", [""])[0]
        if method == "LIST"
        else environ["PATH_INFO"].lstrip("/").partition("/")[2]
    )
    return " ".join([method, "/".join(key.split("/")[:2])])


def _main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    server._server.app = Counting(server._server.app)  # type: ignore[union-attr]
    print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    _main()
