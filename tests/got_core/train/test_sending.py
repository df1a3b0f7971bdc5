"""A tracking server that is away for a while holds no training up, and gets everything in the end."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from got_core.registry.tracking import connect
from got_core.train.sending import Sender


class _Server(ThreadingHTTPServer):
    """Answers 503 while ``away``, else keeps what it was posted."""

    away = True
    got: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if not self.server.away:
            self.server.got.append(body)
        self.send_response(503 if self.server.away else 200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[_Server]:
    one = _Server(("127.0.0.1", 0), _Handler)
    one.got = []
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


def post(server: _Server, body: str) -> Callable[[], None]:
    def call() -> None:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with urllib.request.urlopen(url, data=body.encode(), timeout=60):
            pass

    return call


def until(met: Callable[[], object]) -> None:
    last = time.monotonic() + 60
    while not met():
        assert time.monotonic() < last
        time.sleep(0.01)


def test_records_wait_for_a_server_that_is_away_and_arrive_in_order(server: _Server) -> None:
    said: list[str] = []
    sender = Sender(said.append, first_wait=0.05)
    held, made = threading.Event(), list[bool]()
    sender.put(lambda: made.append(held.wait(60)))
    for number in range(5):
        sender.put(post(server, str(number)))
    assert not made, "whoever records does not wait"
    held.set()
    until(lambda: said)
    assert not sender.flush(0.1)
    assert len(said) == 1 and said[0].startswith(
        "MLflow does not answer, records wait: HTTPError: HTTP Error 503"
    )
    server.away = False
    assert sender.flush(60)
    sender.close(1)
    assert server.got == ["0", "1", "2", "3", "4"]
    assert len(said) == 2 and said[1].startswith("MLflow answers again, after ")


def test_what_a_server_never_got_is_one_line_and_no_error(server: _Server) -> None:
    said: list[str] = []
    sender = Sender(said.append, first_wait=0.05)
    for number in range(3):
        sender.put(post(server, str(number)))
    until(lambda: said)
    sender.close(0.1)
    assert said[-1].startswith("MLflow lacks 3 records of this training: HTTPError: HTTP Error 503")
    assert server.got == []


def test_what_mlflow_refuses_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    client = connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = client.create_run(client.create_experiment("one", str(tmp_path))).info.run_id
    said: list[str] = []
    sender = Sender(said.append, first_wait=0.05)
    for name in ("a loss?!", "loss"):
        sender.put(lambda name=name: log(client, run_id, name))
    sender.close(30)
    assert len(said) == 1 and said[0].startswith("MLflow refuses a record of this training: ")
    assert set(client.get_run(run_id).data.metrics) == {"loss"}


def log(client: MlflowClient, run_id: str, name: str) -> None:
    client.log_batch(run_id, metrics=[Metric(name, 1.0, 1, 1)])
