"""Ingestion of JPEG files against a bare loop that reads, decodes and hashes them in as many processes.

Alternations; the median of each side counts. Then the peak memory of ingesting a tenth of the files and all
of them, each in a process of its own. BENCH_IMAGES sets the number of files (20,000 for the real measure).
"""

from __future__ import annotations

import hashlib
import io
import os
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from got_core.corpus.config import IngestConfig
from got_core.corpus.duplicates import fingerprint
from got_core.corpus.ingest import ingest_images
from got_core.corpus.shards import assign_image_shards
from got_core.storage import Storage

IMAGES, SIDE, ROUNDS = int(os.environ.get("BENCH_IMAGES", "200")), 1024, 5
CONFIG = IngestConfig(image_shard_size=2000)
WORKERS = min(8, os.cpu_count() or 1)


def write_image(folder: Path, index: int) -> None:
    """A smooth random picture with some noise: about as large as a photograph."""
    rng = np.random.default_rng(index)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((SIDE, SIDE * 3 // 4), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = (pixels + rng.integers(-12, 13, pixels.shape, dtype=np.int16)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(folder / f"{index:06d}.jpg", quality=90)


def bare(path: Path) -> tuple[str, str]:
    """The least that ingestion has to do for a file."""
    data = path.read_bytes()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return hashlib.sha256(data).hexdigest(), fingerprint(image).phash


def ingest(raw: Path, storage: str) -> int:
    """All shards; the number of good rows."""
    target = Storage(storage)
    shards = assign_image_shards(target, str(raw), CONFIG)
    return sum(ingest_images(target, str(raw), shard, CONFIG)["error"].is_null().sum() for shard in shards)


def ingestion_rate(raw: Path, place: str) -> float:
    """Images a second."""
    started = time.perf_counter()
    assert ingest(raw, f"{place}/storage-{time.monotonic_ns()}") == IMAGES
    return IMAGES / (time.perf_counter() - started)


def bare_rate(raw: Path, pool: ProcessPoolExecutor) -> float:
    """Images a second, in processes that are up already."""
    started = time.perf_counter()
    assert len(list(pool.map(bare, sorted(raw.iterdir()), chunksize=16))) == IMAGES
    return IMAGES / (time.perf_counter() - started)


def peak(raw: Path, place: str, count: int) -> float:
    """MiB at most in memory while the first `count` files are ingested, in a fresh process."""
    part = Path(place) / f"first-{count}"
    part.mkdir()
    for path in sorted(raw.iterdir())[:count]:
        os.link(path, part / path.name)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_here, part, f"{place}/storage-{count}").result()


def _peak_here(part: Path, storage: str) -> float:
    ingest(part, storage)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> dict[str, float | str]:
    """Images a second of both, their ratio, and the memory of a tenth and of all."""
    rounds = ROUNDS if IMAGES < 5000 else 1
    with (
        tempfile.TemporaryDirectory() as place,
        ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool,
    ):
        raw = Path(place) / "raw"
        raw.mkdir()
        list(pool.map(partial(write_image, raw), range(IMAGES), chunksize=16))
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(ingestion_rate(raw, place))
            theirs.append(bare_rate(raw, pool))
        ingested, looped = statistics.median(ours), statistics.median(theirs)
        few, many = (peak(raw, place, count) for count in (IMAGES // 10, IMAGES))
    return {
        "ingestion, images a second": ingested,
        "bare loop, images a second": looped,
        "ratio": ingested / looped,
        "files": str(IMAGES),
        "threads, and processes of the loop": str(WORKERS),
        "peak memory of a tenth, MiB": few,
        "peak memory of all, MiB": many,
    }
