"""Sweeps in steps over a bucket: everything once, whatever comes, goes, is copied again or is killed."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest

from got_core.corpus import listed as listed_module
from got_core.corpus import listing
from got_core.corpus.config import IngestConfig
from got_core.corpus.listed import Listed
from got_core.corpus.shards import assign_image_shards, passed_over, read_shard, shard_names
from got_core.corpus.sweep import sweep_step
from got_core.filesystems import StoreUnavailableError
from got_core.storage import Storage

CONFIG = IngestConfig(image_shard_size=3)


class Bucket:
    """A bucket, listed four keys at a time."""

    def __init__(self, url: str) -> None:
        self.options = {"endpoint_url": url}
        self.client = boto3.client("s3", **self.options)
        self.name = f"sweep-{uuid.uuid4().hex}"  # buckets of other tests are on the same server
        self.raw = f"s3://{self.name}/raw"
        self.client.create_bucket(Bucket=self.name)

    def put(self, *names: str, body: bytes | None = None) -> None:
        for name in names:
            self.client.put_object(Bucket=self.name, Key=f"raw/{name}", Body=body or name.encode())

    def step(self, storage: Storage) -> None:
        """One page of a sweep, and one of what is behind the last key."""
        sweep_step(storage, self.raw, CONFIG, self.options, seconds=0)

    def sweep(self, storage: Storage) -> None:
        """Steps up to the end of a sweep."""
        for _ in range(30):
            self.step(storage)
            if json.loads(storage.read_bytes("listed/sweep.json"))["number"] == 0 and not cursor(storage):
                return
        raise AssertionError("the sweep does not end")


def cursor(storage: Storage) -> str:
    return storage.read_json("listed/sweep.json")["after"]


def found(storage: Storage) -> list[str]:
    """All paths that are listed, as often as they are."""
    frames = [read_shard(storage, name).select("path") for name in shard_names(storage, "images")]
    return sorted(pl.concat(frames)["path"]) if frames else []


@pytest.fixture
def bucket(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr(listing, "PAGE", 4)
    monkeypatch.setattr(listing, "KEYS", 2)
    monkeypatch.setattr(listed_module, "_LEAF", 5)
    return Bucket(s3_server.url)


NAMES = [f"{folder}/{number:02d}.png" for folder in "ace" for number in range(4)]


def test_each_step_goes_on_from_the_last(bucket: Bucket, storage: Storage) -> None:
    bucket.put(*NAMES, "a/note.txt")
    counts = []
    for _ in range(4):
        bucket.step(storage)
        counts.append(len(found(storage)))
    assert counts == [4, 7, 11, 12], "four keys a step, one of them a text"
    assert found(storage) == sorted(NAMES) and passed_over(storage) == {".txt": 1}
    assert not cursor(storage), "the sweep has ended"


def test_keys_behind_the_last_are_found_in_the_next_step(bucket: Bucket, storage: Storage) -> None:
    bucket.put(*NAMES)
    bucket.sweep(storage)
    bucket.step(storage)
    assert cursor(storage) == NAMES[3], "in the first page of the second sweep"
    bucket.put("z.png", "a/00b.png", "b.png")
    bucket.step(storage)
    assert found(storage) == sorted([*NAMES, "b.png", "z.png"]), "z by its place, b in the second page"
    bucket.sweep(storage)
    bucket.sweep(storage)
    assert found(storage) == sorted([*NAMES, "a/00b.png", "b.png", "z.png"])


def test_a_bucket_copied_again_has_nothing_new(bucket: Bucket, storage: Storage) -> None:
    """Copies have a later time of change, but the tag and size of what they are copies of."""
    bucket.put(*NAMES)
    bucket.sweep(storage)
    first = shard_names(storage, "images")
    for name in first:
        frame = storage.read_table(f"shards/{name}")
        storage.write_table(f"shards/{name}", frame.with_columns(pl.col("modified") - pl.duration(days=9)))
    for name in storage.list("listed/"):
        storage.delete(name)
    bucket.sweep(storage)
    assert shard_names(storage, "images") == first
    bucket.put("a/00.png", body=b"another picture")
    bucket.sweep(storage)
    assert found(storage) == sorted([*NAMES, "a/00.png"]), "replaced by another one"
    bucket.client.delete_object(Bucket=bucket.name, Key="raw/e/03.png")
    bucket.sweep(storage)
    assert len(found(storage)) == len(NAMES) + 1, "what is gone stays in its list"


def test_lists_without_an_index_count_as_listed(bucket: Bucket, storage: Storage) -> None:
    """Homes made before have no index, and perhaps no tags in their lists."""
    bucket.put(*NAMES)
    names = assign_image_shards(storage, bucket.raw, CONFIG, bucket.options)
    for number, name in enumerate(names):
        frame = storage.read_table(f"shards/{name}")
        storage.write_table(f"shards/{name}", frame.drop("etag") if number % 2 else frame)
    for name in storage.list("listed/"):
        storage.delete(name)
    bucket.sweep(storage)
    assert assign_image_shards(storage, bucket.raw, CONFIG, bucket.options) == names
    assert found(storage) == sorted(NAMES)


class Killed(BaseException):
    """As a kill: nothing after it runs."""


def killed_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Storage that is killed right after so many writes."""
    left = iter(range(writes))
    write = Storage._write

    def counted(self: Storage, *args: Any, **kwargs: Any) -> None:
        write(self, *args, **kwargs)
        if next(left, None) is None:
            raise Killed

    monkeypatch.setattr(Storage, "_write", counted)


def test_a_kill_after_any_write_loses_and_repeats_nothing(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(*NAMES[:8])
    for writes in range(60):
        storage = Storage(str(tmp_path / str(writes)))
        with monkeypatch.context() as patch:
            killed_after(patch, writes)
            try:
                bucket.sweep(storage)
                break
            except Killed:
                pass
        bucket.sweep(storage)
        bucket.sweep(storage)
        assert found(storage) == sorted(NAMES[:8]), f"killed after {writes + 1} writes"
    assert 6 < writes < 59, "the last one was not killed"


def test_a_store_that_does_not_answer_moves_no_cursor(bucket: Bucket, storage: Storage) -> None:
    bucket.put(*NAMES)
    bucket.step(storage)
    before = cursor(storage)
    with pytest.raises(StoreUnavailableError):
        sweep_step(storage, bucket.raw, CONFIG, {"endpoint_url": "http://127.0.0.1:9"}, seconds=0)
    assert cursor(storage) == before
    with pytest.raises(FileNotFoundError, match="GOT_RAW"):
        sweep_step(storage, f"s3://{bucket.name}/nothing", CONFIG, bucket.options)


def test_what_was_deleted_or_damaged_of_the_index_is_made_anew(
    bucket: Bucket, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put(*NAMES)
    bucket.sweep(storage)
    [_, leaf], *_ = storage.read_json("listed/directory.json")["leaves"]
    storage.delete(leaf)
    storage.write_bytes("listed/sweep.json", b"{")
    bucket.sweep(storage)
    assert found(storage) == sorted(NAMES) and "made anew" in caplog.text
    storage.write_bytes("listed/directory.json", b"[]")
    bucket.sweep(storage)
    assert found(storage) == sorted(NAMES)
    for name in shard_names(storage, "images"):
        storage.delete(f"shards/{name}")
    bucket.sweep(storage)
    assert found(storage) == sorted(NAMES), "lists that were deleted are made again"


def test_leaves_are_sorted_and_none_is_too_long(bucket: Bucket, storage: Storage) -> None:
    bucket.put(*NAMES[::2])
    bucket.sweep(storage)
    bucket.put(*NAMES[1::2])
    bucket.sweep(storage)
    leaves = storage.read_json("listed/directory.json")["leaves"]
    frames = [storage.read_table(name) for _, name in leaves]
    assert pl.concat(frames)["path"].to_list() == sorted(NAMES)
    assert [frame["path"][0] for frame in frames] == [first for first, _ in leaves]
    assert max(frame.height for frame in frames) <= 5 < len(NAMES)
    index = Listed(storage)
    assert index.catch_up() and index.next_number == len(shard_names(storage, "images"))


def test_a_folder_is_looked_through_in_one_step(tmp_path: Path, storage: Storage) -> None:
    for name in NAMES:
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    names = sweep_step(storage, str(tmp_path / "raw"), CONFIG, seconds=0)
    assert names == shard_names(storage, "images") and found(storage) == sorted(NAMES)
    assert sweep_step(storage, str(tmp_path / "raw"), CONFIG, seconds=0) == names
