"""Fixtures for every test: no setting of the developer's shell leaks in, and storage is a fresh folder.

Files with slow tests come first, so that workers beside each other end at about the same time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from got_core.storage import Storage
from tests.faults.proxy import FaultProxy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first; within a file, and among files of a kind, the order stays."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _forget_settings(patch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GOT_") or name == "RAY_ADDRESS":
            patch.delenv(name)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_settings(monkeypatch)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """Where a test computes with other threads, later ones do not: their number changes last bits."""
    loaded = sys.modules.get("torch")
    before = loaded.get_num_threads() if loaded else int(os.environ.get("OMP_NUM_THREADS", 0))
    yield
    loaded = sys.modules.get("torch")
    if loaded and before and loaded.get_num_threads() != before:
        loaded.set_num_threads(before)


@pytest.fixture(scope="module")
def ray_kept() -> Iterator[None]:
    """One Ray with two places for what a file's tests run in this process: each training would start its own.

    Its workers have the environment of now: they do not see what a test sets.
    """
    from got_core.ray_sessions import ray_session

    with pytest.MonkeyPatch.context() as patch:
        _forget_settings(patch)
        with ray_session(None, 2):
            yield


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage folder of the test's own."""
    return Storage(f"file://{tmp_path / 'storage'}")


@pytest.fixture
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A moto server of the test's own, with `url` and an empty `bucket`, and credentials that it takes."""
    import s3fs
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    server.url = "http://{}:{}".format(*server.get_host_and_port())
    server.bucket = f"got-{uuid4().hex}"  # moto's are one for a process
    s3fs.S3FileSystem(endpoint_url=server.url, skip_instance_cache=True).mkdir(server.bucket)
    yield server
    server.stop()


@pytest.fixture
def fault_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Puts a proxy with faults before the server at a URL, until the test ends."""
    with ExitStack() as stack:
        yield lambda upstream, **options: stack.enter_context(FaultProxy(upstream, **options))


@pytest.fixture
def faulty_s3(s3_server: Any, fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    """A proxy before a moto server, with an empty `bucket`; nothing is wrong yet."""
    proxy = fault_proxy(s3_server.url)
    proxy.bucket = s3_server.bucket  # type: ignore[attr-defined]
    return proxy
