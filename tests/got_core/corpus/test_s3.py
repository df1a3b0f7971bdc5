"""Ingestion from an S3 prefix into a storage on S3, against a real server."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ImageReader, ingest_images
from got_core.corpus.pair_table import read_pair_table
from got_core.corpus.shards import assign_image_shards, passed_over
from got_core.exchange.config import PairMapping
from got_core.exchange.pairs import read_pairs, unpack_pairs
from got_core.exchange.records import read_records
from got_core.storage import Storage

from .pictures import png

CONFIG = IngestConfig(workers=2)


@pytest.fixture
def options(s3_server: Any) -> dict:
    return {"endpoint_url": s3_server.url}


def test_a_prefix_and_tars_in_a_bucket(options: dict) -> None:
    fs = s3fs.S3FileSystem(**options)
    fs.mkdir("pictures")
    for seed in range(3):
        fs.pipe_file(f"pictures/raw/set/{seed}.png", png(seed))
    fs.pipe_file("pictures/raw/cut.png", png(7)[:200])
    fs.pipe_file("pictures/raw/empty.png", b"")
    for name in ("set/", "photos.jpg/", "cut.txt"):  # markers of empty folders, and a caption
        boto3.client("s3", **options).put_object(Bucket="pictures", Key=f"raw/{name}", Body=b"")
    storage = Storage("s3://pictures/storage", **options)
    [shard] = assign_image_shards(storage, "s3://pictures/raw", CONFIG, options)
    frame = ingest_images(storage, "s3://pictures/raw", shard, CONFIG, fs_options=options)
    assert dict(frame.select("path", "reason").iter_rows()) == {
        "cut.png": "truncated",
        "empty.png": "empty_file",
        **{f"set/{seed}.png": None for seed in range(3)},
    }
    assert assign_image_shards(storage, "s3://pictures/raw", CONFIG, options) == [shard]
    assert passed_over(storage) == {"folder marker": 2, ".txt": 1}

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("1.png")
        info.size = len(png(8))
        tar.addfile(info, io.BytesIO(png(8)))
    fs.pipe_file("pictures/tars/a.tar", buffer.getvalue())
    raw = "s3://pictures/tars/*.tar"
    second = assign_image_shards(storage, raw, CONFIG, options)[-1]
    [row] = ingest_images(storage, raw, second, CONFIG, fs_options=options).rows(named=True)
    assert row["paths"] == ["a.tar//1.png"] and row["error"] is None
    reader = ImageReader(raw, CONFIG, options, store_url=storage.url, store_options=options)
    assert reader.read_bytes(row["path"]) == png(8)


def test_parquet_and_tables_in_a_bucket(options: dict, tmp_path: Path) -> None:
    fs = s3fs.S3FileSystem(**options)
    fs.mkdir("tables")
    rows = [
        {
            "omni_edit_id": seed,
            "src_img": {"bytes": png(seed)},
            "edited_img": png(seed + 50),
            "texts": ["x"],
        }
        for seed in range(30)
    ]
    with fs.open("tables/p.parquet", "wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=7)
    fs.pipe_file("tables/pairs.csv", b'source;target;instruction\na.png;b.png;make it 5" wide\n"x;y\n')

    mapping = PairMapping(instructions="texts")
    counts = unpack_pairs(["s3://tables/p.parquet"], tmp_path, mapping, fs_options=options)
    assert counts == {"rows": 30, "pairs": 30, "refused": 0}
    found = read_pairs(tmp_path / "pairs.parquet").row(29, named=True)
    assert found["key"] == "29" and (tmp_path / found["target_path"]).read_bytes() == png(79)

    fs.pipe_file("tables/chains.jsonl", b'{"a": 1}\n[2]\n\n{"a": 3}')
    records = list(read_records("s3://tables/chains.jsonl", fs_options=options))
    assert [(one.row, one.values) for one in records] == [(1, {"a": 1}), (2, None), (4, {"a": 3})]

    table = read_pair_table("s3://tables/pairs.csv", options)
    assert table.select("instruction", "row").rows() == [('make it 5" wide', 1), (None, 2)]
    assert table["problem"][1].startswith("bad_line: line 3: a quote")


def padded(seed: int) -> bytes:
    """Pictures of equal size in bytes: what stands behind a PNG's end is not looked at."""
    return png(seed).ljust(20_000, b"\0")


def test_an_object_of_the_same_size_replaced_in_the_same_second(options: dict) -> None:
    fs = s3fs.S3FileSystem(**options)
    fs.mkdir("replaced")
    raw, storage = "s3://replaced/raw", Storage("s3://replaced/storage", **options)
    fs.pipe_file("replaced/raw/1.png", padded(1))
    [shard] = assign_image_shards(storage, raw, CONFIG, options)
    fs.pipe_file("replaced/raw/1.png", padded(2))
    [row] = ingest_images(storage, raw, shard, CONFIG, fs_options=options).rows(named=True)
    assert row["reason"] == "changed"
    [_, second] = assign_image_shards(storage, raw, CONFIG, options)
    [row] = ingest_images(storage, raw, second, CONFIG, fs_options=options).rows(named=True)
    assert row["error"] is None and row["image_id"] == hashlib.sha256(padded(2)).hexdigest()
    assert len(assign_image_shards(storage, raw, CONFIG, options)) == 2


def test_lists_of_an_older_version_still_fit(options: dict) -> None:
    """They hold no tags of contents, and some servers list milliseconds that a single answer leaves out."""
    fs = s3fs.S3FileSystem(**options)
    fs.mkdir("older")
    raw, storage = "s3://older/raw", Storage("s3://older/storage", **options)
    fs.pipe_file("older/raw/1.png", png(1))
    [shard] = assign_image_shards(storage, raw, CONFIG, options)
    listed = storage.read_table(f"shards/{shard}").drop("etag")
    storage.write_table(f"shards/{shard}", listed)
    assert assign_image_shards(storage, raw, CONFIG, options) == [shard]
    finer = listed.with_columns(pl.col("modified") + pl.duration(milliseconds=7))
    storage.write_table(f"shards/{shard}", finer)
    assert ingest_images(storage, raw, shard, CONFIG, fs_options=options)["error"].to_list() == [None]
