"""Requests to S3, counted at a real server: one for a question, one for a picture."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
import s3fs

from bench.counted_s3 import Counting, counts
from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.ingest import ImageReader, ingest_images
from got_core.corpus.members import Member
from got_core.corpus.reader import Stamp, remote_stamp
from got_core.corpus.shards import assign_image_shards
from got_core.corpus.store import store_picture
from got_core.storage import Storage
from got_core.store_faults import StoreUnavailableError
from tests.faults.answers import not_deleted
from tests.faults.proxy import FaultProxy
from tests.got_core.corpus.pictures import png

CONFIG = IngestConfig(workers=2, max_bytes=100_000)


@pytest.fixture
def fs(s3_server: Any) -> s3fs.S3FileSystem:
    """A file system beside the tested one; the server counts from now on."""
    s3_server._server.app = Counting(s3_server._server.app)
    return s3fs.S3FileSystem(endpoint_url=s3_server.url, skip_instance_cache=True, use_listings_cache=False)


@pytest.fixture
def root(s3_server: Any) -> str:
    return f"{s3_server.bucket}/got"


@pytest.fixture
def remote(s3_server: Any, root: str) -> Storage:
    return Storage(f"s3://{root}", endpoint_url=s3_server.url)


@pytest.fixture
def costs(fs: s3fs.S3FileSystem, s3_server: Any) -> Callable[[Callable[[], Any]], tuple[Any, int]]:
    """What a call gives, and its requests."""

    def count(call: Callable[[], Any]) -> tuple[Any, int]:
        counts(s3_server.url)
        return call(), counts(s3_server.url).total()

    return count


def test_what_is_there_is_one_question(fs: s3fs.S3FileSystem, root: str, remote: Storage, costs: Any) -> None:
    for name in ("a/file.bin", "a/table.parquet", "a/table-2.parquet", "a/doc.json", "b.x/c/d.json", "e-1"):
        fs.pipe_file(f"{root}/{name}", b"x")
    there = {
        **dict.fromkeys(
            ("a", "a/file.bin", "a/table", "a/table.parquet", "a/doc.json", "b.x", "b.x/c"), True
        ),
        **dict.fromkeys(("a/tab", "a/doc", "b", "c", "a/file", "e", "a/table/x", "a/file.bin/x"), False),
    }
    for name, wanted in there.items():
        assert costs(lambda name=name: remote.exists(name)) == (wanted, 1), name
    endings = {
        "a/table": {".parquet"},
        "a/doc": {".json"},
        "a/file": set(),
        "a": set(),
        "b": set(),
        "x": set(),
    }
    for name, found in endings.items():
        assert costs(lambda name=name: remote.endings(name)) == (found, 1), name


def test_a_folder_is_listed_with_one_request(
    fs: s3fs.S3FileSystem, root: str, remote: Storage, costs: Any
) -> None:
    for name in ("a/1", "a/b/2", "a-1", "ab/3", "a.x"):
        fs.pipe_file(f"{root}/{name}", b"x")
    assert costs(lambda: remote.list("a/")) == (["a/1", "a/b/2"], 1)
    assert costs(lambda: remote.list("none/")) == ([], 1)
    assert remote.list("a") == ["a/1", "a/b/2"] and remote.list("a/b") == ["a/b/2"]
    assert remote.list("a/1") == ["a/1"] and remote.list("a.") == ["a.x"]
    assert costs(remote.list) == (["a-1", "a.x", "a/1", "a/b/2", "ab/3"], 1)


def test_many_names_before_the_one_that_is_asked_for(
    fs: s3fs.S3FileSystem, root: str, remote: Storage
) -> None:
    fs.pipe({f"{root}/a-{number}": b"" for number in range(1001)})  # '-' sorts before '.' and '/'
    assert not remote.exists("a")
    fs.pipe_file(f"{root}/a.parquet", b"x")
    assert remote.exists("a")
    fs.pipe_file(f"{root}/b/c", b"x")
    assert remote.exists("b") and remote.endings("a") == {".parquet"}


def test_reading_and_writing_whole_things_is_one_request(remote: Storage, costs: Any) -> None:
    frame = pl.DataFrame({"x": [1, 2]})
    assert costs(lambda: remote.write_table("t/one", frame))[1] == 1
    found, requests = costs(lambda: remote.read_table("t/one"))
    assert found.equals(frame) and requests == 1
    for data in (b"", b"abc"):
        remote.write_bytes("b", data)
        assert costs(lambda: remote.read_bytes("b")) == (data, 1)
    with pytest.raises(FileNotFoundError, match=r"/got/gone does not exist"):
        remote.read_bytes("gone")


def test_more_bytes_than_a_block_are_read_in_parts(fs: s3fs.S3FileSystem, root: str, remote: Storage) -> None:
    data = bytes(range(256)) * 100
    fs.pipe_file(f"{root}/large", data)
    remote._fs.default_block_size, before = 10_000, remote._fs.default_block_size
    try:
        assert remote.read_bytes("large") == data
    finally:
        remote._fs.default_block_size = before


def test_a_stored_picture_is_written_once(remote: Storage, costs: Any) -> None:
    path, requests = costs(lambda: store_picture(remote, png(1), "PNG"))
    assert requests == 1 and remote.read_bytes(f"stored_images/{path.removeprefix('store://')}") == png(1)
    assert costs(lambda: store_picture(remote, png(1), "PNG")) == (path, 1)


def test_a_raw_picture_is_one_request_whatever_comes_of_it(
    fs: s3fs.S3FileSystem, root: str, s3_server: Any, costs: Any
) -> None:
    for name, data in (("1.png", png(1)), ("empty.png", b""), ("large.png", bytes(100_001))):
        fs.pipe_file(f"{root}/{name}", data)
    reader = ImageReader(f"s3://{root}", CONFIG, {"endpoint_url": s3_server.url})
    stamp = remote_stamp(fs.info(f"{root}/1.png"))

    def reason(path: str, expected: Stamp | None = None) -> str | bytes:
        try:
            return reader.read_bytes(path, expected)
        except ImageError as error:
            return error.reason

    assert costs(lambda: reason("1.png")) == (png(1), 1)
    assert costs(lambda: reason("1.png", stamp)) == (png(1), 1)
    assert costs(lambda: reason("1.png", stamp._replace(etag="0" * 32))) == ("changed", 1)
    assert costs(lambda: reason("1.png", stamp._replace(bytes=1))) == ("changed", 1)
    assert costs(lambda: reason("1.png", stamp._replace(etag=None))) == (png(1), 1)
    assert costs(lambda: reason("empty.png")) == (b"", 1)
    assert costs(lambda: reason("large.png")) == ("too_large", 1)
    assert costs(lambda: reason("gone.png")) == ("vanished", 1)


def test_members_of_a_tar_are_one_ranged_request_each(
    fs: s3fs.S3FileSystem, root: str, remote: Storage, s3_server: Any, costs: Any
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for seed in range(6):
            info = tarfile.TarInfo(f"{seed}.png")
            info.size = len(png(seed))
            tar.addfile(info, io.BytesIO(png(seed)))
    fs.pipe_file(f"{root}-raw/a.tar", buffer.getvalue())
    raw, options = f"s3://{root}-raw/*.tar", {"endpoint_url": s3_server.url}
    [shard] = assign_image_shards(remote, raw, CONFIG, options)
    frame, requests = costs(lambda: ingest_images(remote, raw, shard, CONFIG, fs_options=options))
    assert requests <= 4, "the list, the tar's stamp and its bytes"
    assert frame["error"].null_count() == 6 and not remote.list("stored_images/")
    reader = ImageReader(raw, CONFIG, options)
    for row in frame.rows(named=True):
        member = Member.of(row["path"])
        assert member is not None
        assert costs(lambda row=row: reader.read_bytes(row["path"])) == (png(int(member.name[0])), 1)

    fs.pipe_file(f"{root}-raw/a.tar", buffer.getvalue()[:600])
    with pytest.raises(ImageError, match="changed") as caught:
        reader(frame["path"][5])
    assert caught.value.detail.startswith("a.tar//5.png: ")
    fs.rm_file(f"{root}-raw/a.tar")
    with pytest.raises(ImageError, match="vanished"):
        reader(frame["path"][0])


def test_a_shard_is_ingested_with_one_request_a_picture(
    fs: s3fs.S3FileSystem, root: str, remote: Storage, s3_server: Any, costs: Any
) -> None:
    fs.pipe({f"{root}-raw/{seed}.png": png(seed) for seed in range(12)})
    raw, options = f"s3://{root}-raw", {"endpoint_url": s3_server.url}
    [shard], listing = costs(lambda: assign_image_shards(remote, raw, CONFIG, options))
    assert listing <= 14, "with the index of what is listed"
    frame, requests = costs(lambda: ingest_images(remote, raw, shard, CONFIG, fs_options=options))
    assert frame["error"].null_count() == 12 and requests <= 12 + 2


def test_what_a_bulk_delete_keeps_is_no_success(faulty_s3: FaultProxy, s3_server: Any) -> None:
    storage = Storage(f"s3://{s3_server.bucket}/got", endpoint_url=faulty_s3.url)
    for name in ("a", "b", "c"):
        storage.write_bytes(name, b"1")
    kept = faulty_s3.add(not_deleted("got/a", "got/b"), method="POST", path=r"\?delete")
    said = r"got/a could not be deleted, nor could 1 .*AccessDenied"
    with pytest.raises(StoreUnavailableError, match=said):
        storage.delete_many(["a", "b", "c"])
    faulty_s3.clear()
    storage.delete_many(["a", "b", "c", "never there"])
    assert kept.used == 1 and storage.list() == []
