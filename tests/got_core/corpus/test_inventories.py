"""S3 Inventory in place of a listing: everything once, from any place on, whatever is missing or damaged."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest

from got_core.corpus import inventories
from got_core.corpus import listed as listed_module
from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ingest_images
from got_core.corpus.inputs import inputs_of
from got_core.corpus.shards import assign_image_shards, passed_over, read_shard, shard_names
from got_core.corpus.sweep import sweep_step
from got_core.filesystems import StoreUnavailableError
from got_core.storage import Storage
from tests.faults.answers import SLOW_DOWN
from tests.faults.proxy import FaultProxy
from tests.faults.rules import Cut

from .pictures import png
from .published import COLUMNS, CURRENT, FOLDER, Row, objects, publish

CONFIG = IngestConfig(image_shard_size=3, workers=2)
NAMES = [f"{folder}/{number:02d}.png" for folder in "ace" for number in range(4)]


class Bucket:
    """A bucket whose prefix `raw` is an input of a list, with inventories in the same bucket."""

    def __init__(self, url: str, folder: Path) -> None:
        self.options = {"endpoint_url": url}
        self.client = boto3.client("s3", **self.options)
        self.name = f"inventory-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=self.name)
        self.raw = str(folder / "inputs.toml")
        self.take()

    def take(self, raw: str = "raw", inventory: str | None = None) -> None:
        """Write the list of inputs."""
        given = inventory or f"s3://{self.name}/{FOLDER.format(bucket=self.name)}/"
        text = f'[web]\nraw = "s3://{self.name}/{raw}"\ninventory = "{given}"\nlicence = "CC0"\n'
        Path(self.raw).write_text(text)

    def put(self, *names: str, body: bytes | None = None) -> None:
        for name in names:
            self.client.put_object(Bucket=self.name, Key=f"raw/{name}", Body=body or name.encode())

    def publish(self, **options: Any) -> None:
        """An inventory of what is there, in files of five rows."""
        rows = [one for one in objects(self.client, self.name) if not one.key.startswith("inv/")]
        files = [rows[start : start + 5] for start in range(0, len(rows), 5)]
        publish(self.client, self.name, files, **options)

    def step(self, storage: Storage, options: dict | None = None) -> None:
        sweep_step(storage, self.raw, CONFIG, options or self.options, seconds=0)

    def sweep(self, storage: Storage) -> int:
        """Steps up to the end of an inventory; their number."""
        for number in range(1, 60):
            self.step(storage)
            if place(storage)[-1]:
                return number
        raise AssertionError("the inventory does not end")


def place(storage: Storage) -> list[Any]:
    return json.loads(storage.read_json("listed/sweep.json")["inventories"]["web"]["place"])


def found(storage: Storage) -> list[str]:
    """All paths that are listed, as often as they are."""
    frames = [read_shard(storage, name).select("path") for name in shard_names(storage, "images")]
    paths = pl.concat(frames)["path"] if frames else []
    return sorted(path.removeprefix("web://") for path in paths)


@pytest.fixture
def bucket(s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr(inventories, "PAGE", 2)
    monkeypatch.setattr(inventories, "SORTED", 4)
    monkeypatch.setattr(listed_module, "_LEAF", 5)
    return Bucket(s3_server.url, tmp_path)


@pytest.mark.parametrize("form", ["CSV", "Parquet", "ORC"])
@pytest.mark.parametrize("columns", [CURRENT, list(COLUMNS)], ids=["current", "versions"])
def test_what_an_inventory_has_is_what_listing_finds(
    bucket: Bucket, storage: Storage, tmp_path: Path, form: str, columns: list[str]
) -> None:
    odd = ["50%+1 é #1.png", "a b.png", "deep/er/x.PNG", 'q"uote,.png']
    for seed, name in enumerate([*NAMES[:3], *odd]):
        bucket.put(name, body=png(seed))
    bucket.put("a/note.txt", "folder/", ".hidden/x.png")
    bucket.client.put_object(Bucket=bucket.name, Key="rawer/no.png", Body=b"beside the prefix")
    bucket.publish(form=form, columns=columns)
    assert bucket.sweep(storage) > 3, "two rows a step"
    assert found(storage) == sorted([*NAMES[:3], *odd])
    assert passed_over(storage) == {"folder marker": 1, ".txt": 1, ".*": 1}

    other = Storage(str(tmp_path / "listed"))
    Path(bucket.raw).write_text(f'[web]\nraw = "s3://{bucket.name}/raw"\nlicence = "CC0"\n')
    names = assign_image_shards(other, bucket.raw, CONFIG, bucket.options)
    assert passed_over(other) == passed_over(storage)
    frames = [
        pl.concat(read_shard(store, name) for name in shard_names(store, "images")).sort("path")
        for store in (storage, other)
    ]
    assert frames[0].equals(frames[1]) and len(names) == 3
    assert assign_image_shards(storage, bucket.raw, CONFIG, bucket.options) == shard_names(
        storage, "images"
    ), "listing finds nothing new after the inventory"
    rows = [
        ingest_images(storage, bucket.raw, name, CONFIG, fs_options=bucket.options)
        for name in shard_names(storage, "images")
    ]
    assert pl.concat(rows)["error"].null_count() == 7 and set(pl.concat(rows)["licence"]) == {"CC0"}


def test_an_inventory_is_read_once_and_the_next_one_brings_what_is_new(
    bucket: Bucket, storage: Storage
) -> None:
    bucket.put(*NAMES, "a/note.txt")
    bucket.publish()
    bucket.sweep(storage)
    done, names = place(storage), shard_names(storage, "images")
    bucket.put("b.png")
    bucket.step(storage)
    assert place(storage) == done and shard_names(storage, "images") == names, "the bucket is not listed"
    assert passed_over(storage) == {".txt": 1}, "as when it was read"
    bucket.put(NAMES[0], body=b"another picture")
    bucket.client.delete_object(Bucket=bucket.name, Key=f"raw/{NAMES[5]}")
    bucket.publish(date="2026-01-03T01-00Z")
    bucket.sweep(storage)
    assert found(storage) == sorted([*NAMES, NAMES[0], "b.png"]), "what is gone stays in its list"
    publish(bucket.client, bucket.name, [], date="2026-01-04T01-00Z")
    assert bucket.sweep(storage) == 1
    assert len(found(storage)) == len(NAMES) + 2, "an empty inventory takes nothing away"


def test_one_run_reads_what_no_sweep_has_read(bucket: Bucket, storage: Storage) -> None:
    bucket.put(*NAMES)
    bucket.publish()
    bucket.step(storage)
    names = assign_image_shards(storage, bucket.raw, CONFIG, bucket.options)
    assert found(storage) == sorted(NAMES) and place(storage)[-1]
    assert assign_image_shards(storage, bucket.raw, CONFIG, bucket.options) == names
    for name in names:
        storage.delete(f"shards/{name}")
    assign_image_shards(storage, bucket.raw, CONFIG, bucket.options)
    assert found(storage) == sorted(NAMES), "lists that were deleted are made again"
    wider = IngestConfig(image_shard_size=3, pictures=("*.png", "*.txt"))
    bucket.put("a/note.txt")
    bucket.publish()
    assign_image_shards(storage, bucket.raw, wider, bucket.options)
    assert "a/note.txt" in found(storage)
    widest = IngestConfig(image_shard_size=3, pictures=("*",), ignore=("none",))
    bucket.put(".kept")
    bucket.publish()
    assign_image_shards(storage, bucket.raw, CONFIG, bucket.options)
    assert ".kept" not in found(storage)
    assign_image_shards(storage, bucket.raw, widest, bucket.options)
    assert ".kept" in found(storage), "read again, since something else is looked for"


def test_old_versions_and_delete_markers_are_not_there(bucket: Bucket, storage: Storage) -> None:
    rows = [
        Row("raw/a.png", etag="1" * 32, latest=False),
        Row("raw/a.png", etag="2" * 32),
        Row("raw/b.png", size=None, etag=None, marker=True),
        Row("raw/b.png", latest=False),
        Row("raw/c.png", modified=None),
    ]
    for number, form in enumerate(("CSV", "Parquet", "ORC")):
        date = f"2026-01-1{number}T01-00Z"
        publish(bucket.client, bucket.name, [rows], form=form, columns=list(COLUMNS), date=date)
        bucket.sweep(storage)
        assert found(storage) == ["a.png", "c.png"]
    assert read_shard(storage, "images-00000")["etag"][0] == "2" * 32


def test_tars_and_tables_below_a_prefix(bucket: Bucket, storage: Storage) -> None:
    bucket.put("t/1.tar", "t/2.tar", "t/3.tar.gz", "deeper/t/4.tar", "t/.5.tar")
    bucket.put("urls.csv", body=b"url\nhttps://example.org/1.png\nhttps://example.org/2.png\n")
    bucket.publish()
    bucket.take("raw/t/*.tar")
    bucket.sweep(storage)
    assert found(storage) == ["1.tar", "2.tar"] and set(read_shard(storage, "images-00000")["kind"]) == {
        "tar"
    }
    bucket.take("raw/urls.csv")
    bucket.sweep(storage)
    assert found(storage)[2:] == ["https://example.org/1.png", "https://example.org/2.png"]


def test_only_a_whole_manifest_counts(
    bucket: Bucket, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FileNotFoundError, match=r"no whole inventory in s3://.*48 hours"):
        bucket.step(storage)
    bucket.put(*NAMES[:4])
    bucket.publish()
    bucket.put(*NAMES[4:])
    bucket.publish(date="2026-01-03T01-00Z", checksum="")
    bucket.publish(date="2026-01-04T01-00Z", checksum="0" * 32)
    bucket.sweep(storage)
    assert found(storage) == NAMES[:4] and "not whole yet" in caplog.text and "its MD5 is" in caplog.text
    bucket.publish(date="2026-01-04T01-00Z")
    bucket.sweep(storage)
    assert found(storage) == sorted(NAMES)


def test_an_inventory_that_is_still_to_come_holds_up_no_other_input(
    bucket: Bucket, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    (Path(bucket.raw).parent / "own").mkdir()
    (Path(bucket.raw).parent / "own" / "own.png").write_bytes(b"x")
    with Path(bucket.raw).open("a") as file:
        file.write('[own]\nraw = "own"\n')
    for _ in range(3):
        bucket.step(storage)
    assert found(storage) == ["own://own.png"] and "the input [web] is passed over" in caplog.text
    bucket.put(*NAMES)
    bucket.publish()
    for _ in range(20):
        bucket.step(storage)
    assert len(found(storage)) == len(NAMES) + 1


def test_fetching_a_file_leaves_time_to_read_it(
    bucket: Bucket, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(*NAMES)
    bucket.publish()
    fetch = inventories._Inventory._fetched

    def slow(*args: Any) -> Path:
        time.sleep(0.7)
        return fetch(*args)

    monkeypatch.setattr(inventories._Inventory, "_fetched", slow)
    sweep_step(storage, bucket.raw, CONFIG, bucket.options, seconds=0.6)
    assert len(found(storage)) >= 4, "more than the first two rows"


def test_a_manifest_by_its_name(bucket: Bucket, storage: Storage, tmp_path: Path) -> None:
    bucket.put(*NAMES)
    bucket.publish()
    bucket.publish(date="2026-01-03T01-00Z", columns=["Bucket", "Key"])
    folder = f"s3://{bucket.name}/{FOLDER.format(bucket=bucket.name)}"
    bucket.take(inventory=f"{folder}/2026-01-02T01-00Z/manifest.json")
    bucket.sweep(storage)
    assert found(storage) == sorted(NAMES)
    bucket.take(inventory=f"{folder}/2026-01-01T01-00Z/manifest.json")
    with pytest.raises(FileNotFoundError, match="no whole inventory"):
        bucket.step(Storage(str(tmp_path / "other")))


def test_a_file_that_is_missing_or_another_one(bucket: Bucket, storage: Storage) -> None:
    bucket.put(*NAMES)
    bucket.publish()
    folder = f"{FOLDER.format(bucket=bucket.name)}/data/"
    files = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=folder)["Contents"]
    whole = {
        one["Key"]: bucket.client.get_object(Bucket=bucket.name, Key=one["Key"])["Body"].read()
        for one in files
    }
    for key, data in whole.items():
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=data[:-1] + b"x")
    with pytest.raises(ValueError, match=r"data/\w+\.csv\.gz of the inventory .*manifest\.json has .*MD5"):
        bucket.sweep(storage)
    for key in whole:
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    with pytest.raises(ValueError, match="does not exist; let a lifecycle rule keep"):
        bucket.sweep(storage)
    assert found(storage) == []
    for key, data in whole.items():
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=data)
    bucket.sweep(storage)
    assert found(storage) == sorted(NAMES)


def test_an_inventory_that_was_begun_is_finished_unless_its_files_are_gone(
    bucket: Bucket, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put(*NAMES)
    bucket.publish()
    bucket.step(storage)
    bucket.put("b.png")
    bucket.publish(date="2026-01-03T01-00Z", form="Parquet")
    assert bucket.sweep(storage) > 3
    assert found(storage) == sorted(NAMES), "those of the one that was begun"
    bucket.step(storage)
    bucket.put("d.png")
    bucket.publish(date="2026-01-05T01-00Z")
    for one in bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=FOLDER.format(bucket=bucket.name))[
        "Contents"
    ]:
        if one["Key"].endswith(".parquet"):
            bucket.client.delete_object(Bucket=bucket.name, Key=one["Key"])
    bucket.sweep(storage)
    assert found(storage) == sorted([*NAMES, "b.png", "d.png"]) and "newer inventory" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": [name for name in CURRENT if name != "ETag"]}, "lacks ETag, .*optional fields"),
        ({"columns": ["Bucket", "Key"], "form": "Parquet"}, "lacks Size and ETag"),
        ({"columns": [*CURRENT, "VersionId"], "form": "ORC"}, "IsLatest and IsDeleteMarker"),
        ({"source": "another"}, "of the bucket 'another', but raw is in"),
    ],
)
def test_inventories_that_cannot_be_used(
    bucket: Bucket, storage: Storage, change: dict[str, Any], message: str
) -> None:
    bucket.put(*NAMES)
    bucket.publish(**change)
    with pytest.raises(ValueError, match=message):
        bucket.step(storage)
    assert shard_names(storage, "images") == []


def test_columns_that_may_be_missing(bucket: Bucket, storage: Storage) -> None:
    bucket.put(*NAMES)
    bucket.publish(columns=["Bucket", "Key", "Size", "ETag"])
    bucket.sweep(storage)
    Path(bucket.raw).write_text(f'[web]\nraw = "s3://{bucket.name}/raw"\n')
    assign_image_shards(storage, bucket.raw, CONFIG, bucket.options)
    assert found(storage) == sorted(NAMES), "known by tag and size, whatever the time"


class Killed(BaseException):
    """As a kill: nothing after it runs."""


def test_a_kill_after_any_write_loses_and_repeats_nothing(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(*NAMES[:8])
    bucket.publish()
    write = Storage._write
    for writes in range(60):
        storage, left = Storage(str(tmp_path / str(writes))), iter(range(writes))

        def counted(self: Storage, *args: Any, left: Any = left, **kwargs: Any) -> None:
            write(self, *args, **kwargs)
            if next(left, None) is None:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Storage, "_write", counted)
            try:
                bucket.sweep(storage)
                break
            except Killed:
                pass
        bucket.sweep(storage)
        assert found(storage) == sorted(NAMES[:8]), f"killed after {writes + 1} writes"
    assert 6 < writes < 59, "the last one was not killed"


@pytest.mark.parametrize("path", ["manifest.json", "manifest.checksum", r"data/\w+\.csv\.gz", "list-type"])
def test_a_store_that_fails_moves_nothing(
    bucket: Bucket,
    storage: Storage,
    s3_server: Any,
    fault_proxy: Callable[..., FaultProxy],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    bucket.put(*NAMES)
    bucket.publish()
    bucket.step(storage)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy = fault_proxy(s3_server.url)
    options = {"endpoint_url": proxy.url}
    before = place(storage)
    for fault in (SLOW_DOWN, Cut(after=0)):
        proxy.add(fault, path=path)
        with pytest.raises(StoreUnavailableError):
            bucket.step(storage, options)
        assert place(storage) == before
        proxy.clear()
    proxy.clear()
    bucket.step(storage, options)
    bucket.sweep(storage)
    assert found(storage) == sorted(NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('raw = "photos"\ninventory = "s3://b/i"', "for raw on S3"),
        ('raw = "s3://b/raw"\ninventory = "inv"', r"prefix on S3 such as s3://bucket/inventory/, not 'inv'"),
        ('raw = "s3://b/raw"\nevents = "s3://"', "events is a prefix on S3"),
        ('raw = "s3://b/raw"\nevents = "s3a://b"', "raw lies below events"),
        ('raw = "s3://b/raw"\ninventory = "s3://c/d/e"\nevents = "s3://c/d/"', "inventory lies below events"),
        ('raw = "s3://b/raw"\ninventories = "s3://b/i"', "events, inventory, licence, raw, source"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "inputs.toml").write_text(f"[web]\n{text}\n")
    with pytest.raises(ValueError, match=message):
        inputs_of(tmp_path / "inputs.toml")
