"""Compare and replace, on folders and on S3: of many writers none overwrites what it has not read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from got_core.conditional_files import ConditionalFiles, LocalFiles, S3Files, conditional_files
from got_core.filesystems import open_filesystem
from got_core.store_faults import StoreUnavailableError

ROOT = Path(__file__).parents[2]
ADD = """
import json, sys, uuid
from pathlib import Path
from got_core.conditional_files import conditional_files
url, options, times = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
files = conditional_files(url, options, Path("never"))
for _ in range(times):
    while True:
        now = files.read("a/count.json")
        count = json.loads(now.data)[0] if now else 0
        if files.write("a/count.json", json.dumps([count + 1, uuid.uuid4().hex]).encode(), now):
            break
"""


@pytest.fixture
def files(place: tuple[str, dict[str, Any]], tmp_path: Path) -> ConditionalFiles:
    return conditional_files(*place, tmp_path / "fallback")


def test_the_store_itself_keeps_them(files: ConditionalFiles, place: tuple[str, dict[str, Any]]) -> None:
    assert isinstance(files, S3Files if place[0].startswith("s3") else LocalFiles) and not files.note


def test_a_file_is_replaced_only_by_who_has_read_it(files: ConditionalFiles) -> None:
    assert files.read("a/b.json") is None
    first = files.write("a/b.json", b"first", None)
    assert first and files.read("a/b.json") == first and first.data == b"first"
    assert files.write("a/b.json", b"again", None) is None, "it is there by now"
    second = files.write("a/b.json", b"2", first)
    assert second and second.data.strip() == b"2"
    assert files.write("a/b.json", b"late", first) is None, "it has changed since"
    assert files.write("a/c.json", b"late", first) is None, "it is not there"
    assert files.read("a/b.json") == second


def test_of_many_processes_none_overwrites_another(place: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", ADD, place[0], json.dumps(place[1]), "25"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    workers = [subprocess.Popen(arguments, env=environment, cwd=tmp_path) for _ in range(4)]
    assert [worker.wait(600) for worker in workers] == [0] * 4
    found = conditional_files(*place, tmp_path / "fallback").read("a/count.json")
    assert found and json.loads(found.data)[0] == 100
    assert not (tmp_path / "never").exists()


def test_a_reply_lost_on_its_way_is_no_refusal(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fs, root = open_filesystem(f"s3://{s3_server.bucket}/x", endpoint_url=s3_server.url)
    files = S3Files(fs, root)
    real = type(fs).write_if

    def sent_twice(self: Any, path: str, data: bytes, etag: str | None) -> str | None:
        assert real(self, path, data, etag)
        return real(self, path, data, etag)

    monkeypatch.setattr(type(fs), "write_if", sent_twice)
    first = files.write("f", b"one", None)
    assert first and files.write("f", b"two", first) == files.read("f")


@pytest.mark.parametrize("how", ["heeds none", "refuses them"])
def test_a_store_without_conditional_writes_falls_back_to_this_machine(
    s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    from got_core.s3_filesystem import S3

    async def without(self: Any, path: str, data: bytes, etag: str | None) -> str | None:
        if how == "refuses them":
            raise StoreUnavailableError("the S3 store could not be used: it answered NotImplemented: no")
        bucket, key, _ = self.split_path(path)
        return (await self._call_s3("put_object", Bucket=bucket, Key=key, Body=data))["ETag"]

    monkeypatch.setattr(S3, "_write_if", without)
    url = f"s3://{s3_server.bucket}/y"
    files = conditional_files(url, {"endpoint_url": s3_server.url}, tmp_path / "fallback")
    assert isinstance(files, LocalFiles) and url in files.note and str(tmp_path / "fallback") in files.note
    assert files.write("f", b"one", None) and [*(tmp_path / "fallback").rglob("f")]


def test_a_store_that_is_down_is_no_store_without_conditional_writes(tmp_path: Path) -> None:
    options = {"endpoint_url": "http://127.0.0.1:9", "key": "x", "secret": "x"}
    with pytest.raises(StoreUnavailableError):
        conditional_files("s3://bucket/x", options, tmp_path)
