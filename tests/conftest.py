"""Fixtures for every test: no setting of the developer's shell leaks in, and storage is a fresh folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from got_core.storage import Storage


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GOT_") or name == "RAY_ADDRESS":
            monkeypatch.delenv(name)


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
