"""A server in this process, at a real port, with a model of the real classes."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from got_core.registry.loading import LoadOptions
from got_core.server_settings import ServeSettings
from got_core.serving.answers import Publisher
from got_core.serving.app import make_app
from got_core.serving.models import ModelSlot


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    app: Any

    @property
    def serving(self) -> Any:
        return self.app.state.serving

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        status, data, _ = self.raw(path, body, headers, method)
        return status, json.loads(data)

    def raw(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None
    ) -> tuple[int, bytes, Any]:
        """Status, bytes and headers; `body`: bytes as they are, or something that is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"} | (headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers


@contextmanager
def served(
    reference: str, tracking_uri: str = "sqlite:////nowhere/mlflow.db", publisher: Publisher | None = None,
    **settings: Any,
) -> Iterator[Served]:  # fmt: skip
    """Serve a model until the end."""
    slot = ModelSlot(reference, tracking_uri, LoadOptions(device="cpu"))
    app = make_app(slot, ServeSettings(_env_file=None, **settings), publisher)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        # The socket listens already: a request waits until the server takes it.
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", app)
    finally:
        server.should_exit = True
        thread.join(120)
        listening.close()
