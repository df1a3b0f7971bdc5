"""Servers, addresses and the store of a rehearsal: real processes, real namespaces where they can be made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.cluster_rehearsal.machines import Server, ServerError, listens
from deployments.cluster_rehearsal.network import Address, can_make_namespaces, network
from got_core.conditional_files import S3Files, conditional_files
from got_core.storage import Storage
from tests.deployments.cluster_rehearsal.namespaces import mark, own_network
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]

HERE = Address("here", "127.0.0.1", None)
LISTENS = (
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
)
TWO = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LISTENS!r}, sys.argv[1]])"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers of this machine, which are stopped at the end."""
    servers: list[Server] = []

    def make(command: list[str], ready: Callable[[], bool], **more: Any) -> Server:
        servers.append(
            Server(
                name="it",
                address=HERE,
                command=[sys.executable, *command],
                folder=tmp_path / "it",
                environment=os.environ | {"PYTHONPATH": str(ROOT)},
                ready=ready,
                **more,
            )
        )
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


def test_a_server_is_started_when_it_is_ready_and_killed_with_all_that_it_started(
    started: Callable[..., Server],
) -> None:
    port = free_port()
    server = started(["-c", TWO, str(port)], lambda: listens("127.0.0.1", port))
    server.start()
    assert server.is_alive()
    server.kill()
    assert not server.is_alive() and not listens("127.0.0.1", port)
    server.start()
    assert listens("127.0.0.1", port)


def test_a_server_starts_without_what_its_last_start_left(
    started: Callable[..., Server], tmp_path: Path
) -> None:
    left = tmp_path / "left"
    leaves = f"import pathlib, time; pathlib.Path({str(left)!r}).open('x').close(); time.sleep(600)"
    server = started(["-c", leaves], left.exists, without=left)
    server.start()
    server.kill()
    server.start()
    assert left.exists() and server.is_alive()


def test_a_server_that_ends_or_is_late_says_what_its_log_says(started: Callable[..., Server]) -> None:
    with pytest.raises(ServerError, match=r"it ended with 3:\nno such thing"):
        started(["-c", "import sys; print('no such thing'); sys.exit(3)"], lambda: False).start()
    with pytest.raises(ServerError, match=r"it is not ready within 0\.5 s"):
        started(["-c", "import time; time.sleep(600)"], lambda: False, seconds=0.5).start()


def test_the_store_has_conditional_writes_and_keeps_objects_when_it_is_killed(
    started: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("localbucket")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    port = free_port()
    command = ["-m", "deployments.cluster_rehearsal.store", str(tmp_path / "objects"), "127.0.0.1", str(port)]
    server = started(command, lambda: listens("127.0.0.1", port))
    server.start()
    (tmp_path / "objects" / "got").mkdir()
    options = {"endpoint_url": f"http://127.0.0.1:{port}"}
    storage = Storage("s3://got/storage", **options)
    for name in ("a", "b", "c/d"):
        storage.write_json(f"{name}.json", {"name": name})
    storage.delete_many(["a.json", "c/d.json"])
    assert storage.list() == ["b.json"]
    files = conditional_files(storage.url, storage.fs_options)
    assert isinstance(files, S3Files)
    first = files.write("leases/it", b"one", None)
    assert first is not None and files.write("leases/it", b"two", first) is not None
    assert files.write("leases/it", b"three", first) is None
    server.kill()
    server.start()
    assert Storage("s3://got/storage", **options).read_json("b.json") == {"name": "b"}


def test_without_namespaces_machines_are_addresses_of_the_loopback_network() -> None:
    with network(["a", "b"], namespaces=False) as hosts:
        assert {one.host for one in hosts.values()} == {"127.0.77.11", "127.0.77.12"}
        assert hosts["a"].inside(["true"]) == ["true"]


@pytest.mark.skipif(not can_make_namespaces(), reason="needs the right to make network namespaces")
def test_machines_reach_each_other_and_nothing_of_this_one_and_leave_nothing() -> None:
    def namespaces() -> str:
        return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout

    with own_network(["a", "b"]) as hosts:
        port = free_port()
        a, b = hosts["a"], hosts["b"]
        code = f"import socket, time; s = socket.create_server(({a.host!r}, {port})); time.sleep(600)"
        process = subprocess.Popen(a.inside([sys.executable, "-c", code]))
        look = f"import socket; socket.create_connection(({a.host!r}, {port}), 5)"
        try:
            until = time.monotonic() + 60
            while not listens(a.host, port):
                assert time.monotonic() < until
            assert subprocess.run(b.inside([sys.executable, "-c", look])).returncode == 0
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert f"{mark()}-a" in namespaces()
    assert mark() not in namespaces()
    assert f"{mark()}0" not in psutil.net_if_addrs()


@pytest.mark.skipif(not can_make_namespaces(), reason="needs the right to make network namespaces")
def test_machines_are_made_again_while_a_process_of_the_last_ones_ends() -> None:
    with own_network(["a"]) as hosts:
        process = subprocess.Popen(hosts["a"].inside(["sleep", "600"]))
        # It is in the namespace once that is no longer this one.
        mine = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{process.pid}/ns/net") == mine:
            time.sleep(0.01)
    try:
        with own_network(["a"]) as hosts:
            assert subprocess.run(hosts["a"].inside(["true"])).returncode == 0
    finally:
        process.kill()
        process.wait()
