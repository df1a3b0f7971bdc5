"""Steps through an S3 Inventory of many objects against steps through the listing of the same bucket.

The inventory lies in a folder that takes the place of the bucket, so no network is in it: what is measured is
the work of this machine. BENCH_KEYS sets the number of objects (1,000,000 for the real measure); files have a
quarter of them each. It is read as CSV in the order of keys, and as parquet in no order. Each side runs in a
fresh process, steps end after five seconds.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import polars as pl
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from bench.bench_listing import CONFIG, KEYS, RAW, WRITTEN, Lister
from got_core.corpus import inventories, listing
from got_core.corpus.sweep import sweep_step
from got_core.storage import Storage

SECONDS = 5.0
FOLDER = "bucket/inventory"
SCHEMAS = {
    "CSV": "Bucket, Key, Size, LastModifiedDate, ETag",
    "Parquet": "message s3.inventory {  required binary bucket (STRING);  required binary key (STRING);  "
    "optional int64 size;  optional int64 last_modified_date (TIMESTAMP(MILLIS,true));  "
    "optional binary e_tag (STRING);}",
}


def publish(folder: Path, form: str, ordered: bool) -> None:
    """An inventory of a bucket's objects."""
    numbers = list(range(KEYS))
    if not ordered:
        random.Random(1).shuffle(numbers)
    dated = folder / FOLDER / "2026-01-02T01-00Z"
    dated.mkdir(parents=True)
    quarter = -(-KEYS // 4)
    files = [_file(folder, form, numbers[start : start + quarter]) for start in range(0, KEYS, quarter)]
    manifest = {"sourceBucket": "bucket", "fileFormat": form, "fileSchema": SCHEMAS[form], "files": files}
    data = json.dumps(manifest).encode()
    (dated / "manifest.json").write_bytes(data)
    (dated / "manifest.checksum").write_text(hashlib.md5(data).hexdigest())


def _file(folder: Path, form: str, numbers: list[int]) -> dict[str, str | int]:
    key = f"inventory/data/{form}-{numbers[0]}"
    path = folder / "bucket" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = [f"raw/{number:09d}.jpg" for number in numbers]
    if form == "CSV":
        when = f"{WRITTEN:%Y-%m-%dT%H:%M:%S.000Z}"
        lines = (f'"bucket","{key}","9","{when}","{key}"\n' for key in keys)
        path.write_bytes(gzip.compress("".join(lines).encode(), 1))
    else:
        named = pl.DataFrame({"bucket": "bucket", "key": keys, "size": 9})
        times = pl.lit(WRITTEN).cast(pl.Datetime("ms", "UTC")).alias("last_modified_date")
        named.with_columns(times, pl.col("key").alias("e_tag")).write_parquet(path)
    data = path.read_bytes()
    return {"key": key, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}


def _run(home: str, bucket: str | None) -> tuple[list[float], float]:
    """Seconds of each step up to the end, and one that finds nothing new; peak MiB above what was there."""
    storage, seconds, raw = Storage(home), [], RAW
    if bucket is None:
        lister = Lister()
        listing.open_filesystem = lambda url, **options: (lister, "bucket/raw")  # type: ignore[assignment]
    else:
        raw = f"{bucket}/inputs.toml"
        Path(raw).write_text(f'[web]\nraw = "{RAW}"\ninventory = "s3://{FOLDER}"\n')
        local = DirFileSystem(path=bucket, fs=LocalFileSystem())
        inventories.open_filesystem = lambda url, **options: (local, url.removeprefix("s3://"))  # type: ignore[assignment]
    before, ended = _peak(), 0
    while ended < 2:
        started = time.monotonic()
        sweep_step(storage, raw, CONFIG, seconds=SECONDS)
        seconds.append(time.monotonic() - started)
        cursor = storage.read_json("listed/sweep.json")
        ended += not cursor["after"] and not cursor["number"] and _is_done(cursor)
    return seconds, _peak() - before


def _peak() -> float:
    """MiB of this process. Not `ru_maxrss`: a process takes over that of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _is_done(cursor: dict) -> bool:
    return all(json.loads(one["place"])[-1] for one in cursor["inventories"].values())


def _checked(home: str) -> None:
    storage = Storage(home)
    names = storage.list("shards/images-")
    paths = pl.concat(storage.read_table(name.removesuffix(".parquet")).select("path") for name in names)
    assert paths.height == paths.n_unique() == KEYS, "all found, none twice"


def main() -> dict[str, float | str]:
    """Steps, the longest of them, all of them, and memory, of each side."""
    figures: dict[str, float | str] = {"objects": str(KEYS)}
    ways = {"listing": None, "CSV": ("CSV", True), "parquet in no order": ("Parquet", False)}
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name, form in ways.items():
            place = Path(folder) / name
            if form is not None:
                publish(place, *form)
            steps, memory = pool.apply(_run, (f"{place}-home", None if form is None else str(place)))
            _checked(f"{place}-home")
            figures |= {
                f"{name}: steps": str(len(steps)),
                f"{name}: longest step, seconds": max(steps),
                f"{name}: all steps, seconds": sum(steps),
                f"{name}: MiB": memory,
            }
    return figures
