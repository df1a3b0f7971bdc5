"""Steps through a bucket of many keys against listing all of it at once, on the same store.

The store is a lister in memory that answers as S3 does, a thousand keys a request, without any wait: what is
measured is the work of this machine. BENCH_KEYS sets their number (1,000,000 for the real measure). The other
side holds all entries in one frame and joins it with all lists. Each side runs in a fresh process.
"""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
import time
from bisect import bisect_right
from datetime import UTC, datetime
from multiprocessing import get_context
from threading import Thread
from typing import Any

import polars as pl

from got_core.corpus import listing
from got_core.corpus.config import IngestConfig
from got_core.corpus.inputs import Input
from got_core.corpus.listing import list_pages
from got_core.corpus.shards import read_shard
from got_core.corpus.sieve import Sieve
from got_core.corpus.sweep import sweep_step
from got_core.storage import Storage

KEYS = int(os.environ.get("BENCH_KEYS", "100000"))
RAW, CONFIG = "s3://bucket/raw", IngestConfig()
WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)


class Lister:
    """What listing needs of s3fs."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        Thread(target=self.loop.run_forever, daemon=True).start()
        self.keys = [f"raw/{number:09d}.jpg" for number in range(KEYS)]

    def isdir(self, path: str) -> bool:
        """Whether the prefix holds keys."""
        return bool(path)

    async def _call_s3(self, method: str, MaxKeys: int, StartAfter: str = "", **kwargs: Any) -> Any:
        start = bisect_right(self.keys, StartAfter)
        keys = self.keys[start : start + MaxKeys]
        found = [{"Key": key, "Size": 9, "ETag": f'"{key}"', "LastModified": WRITTEN} for key in keys]
        return {"Contents": found, "IsTruncated": start + MaxKeys < len(self.keys)}


def in_steps(folder: str) -> tuple[list[float], float]:
    """Seconds of each step of a first sweep and of one that finds nothing new; peak MiB."""
    storage, seconds = Storage(folder), []
    for _ in range(2):
        while True:
            started = time.monotonic()
            sweep_step(storage, RAW, CONFIG)
            seconds.append(time.monotonic() - started)
            if not storage.read_json("listed/sweep.json")["after"]:
                break
    return seconds, _peak()


def at_once(folder: str) -> tuple[list[float], float]:
    """Seconds of listing all of it and finding that all of it is listed; peak MiB."""
    storage, started = Storage(folder), time.monotonic()
    pages = [page.found for page in list_pages(Input(base=RAW), CONFIG, Sieve(CONFIG))]
    names = [name.removesuffix(".parquet").removeprefix("shards/") for name in storage.list("shards/images-")]
    listed = pl.concat(read_shard(storage, name).select("path", "bytes", "etag") for name in names)
    assert pl.concat(pages).join(listed, on=["path", "bytes", "etag"], how="anti").is_empty()
    return [time.monotonic() - started], _peak()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run(way: str, folder: str) -> tuple[list[float], float]:
    lister = Lister()
    before = _peak()
    listing.open_filesystem = lambda url, **options: (lister, "bucket/raw")  # type: ignore[assignment]
    seconds, peak = {"steps": in_steps, "at once": at_once}[way](folder)
    return seconds, peak - before


def main() -> dict[str, float | str]:
    """Steps, the longest of them, and memory above the lister's own, of both."""
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        steps, ours = pool.apply(_run, ("steps", folder))
        once, theirs = pool.apply(_run, ("at once", folder))
        storage = Storage(folder)
        names = storage.list("shards/images-")
        paths = pl.concat(storage.read_table(name.removesuffix(".parquet")).select("path") for name in names)
        assert paths.height == paths.n_unique() == KEYS, "all found, none twice"
    return {
        "keys": str(KEYS),
        "steps of two sweeps": str(len(steps)),
        "longest step, seconds": max(steps),
        "all steps, seconds": sum(steps),
        "steps, MiB above the lister": ours,
        "at once, seconds": once[0],
        "at once, MiB above the lister": theirs,
    }
