"""Ingestion of JPEG files against a bare loop that reads, decodes and hashes them in as many processes.

The files are cut into parts; of each part both sides take their turn, now one first, now the other, and the
median over the parts counts. Then the peak memory of ingesting a tenth of the files and all of them, each in
a process of its own. BENCH_IMAGES sets the number of files (20,000 for the real measure), BENCH_RAW a folder
that keeps them for the next time.
"""

from __future__ import annotations

import hashlib
import io
import os
import resource
import shutil
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

IMAGES, SIDE, PARTS = int(os.environ.get("BENCH_IMAGES", "1000")), 1024, 10
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


def write_images(folder: Path, pool: ProcessPoolExecutor) -> list[Path]:
    """The files, in order; those that are there are not written again."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(IMAGES) if not (folder / f"{index:06d}.jpg").exists()]
    list(pool.map(partial(write_image, folder), missing, chunksize=16))
    return sorted(folder.iterdir())[:IMAGES]


def linked(files: list[Path], folder: Path) -> Path:
    """A folder that holds just these files."""
    folder.mkdir()
    for path in files:
        try:
            os.link(path, folder / path.name)
        except OSError:  # another file system
            shutil.copy(path, folder / path.name)
    return folder


def ingestion_rate(files: list[Path], place: Path) -> float:
    """Images a second."""
    started = time.perf_counter()
    assert ingest(linked(files, place / "raw"), str(place / "storage")) == len(files)
    return len(files) / (time.perf_counter() - started)


def bare_rate(files: list[Path], pool: ProcessPoolExecutor) -> float:
    """Images a second, in processes that are up already."""
    started = time.perf_counter()
    assert len(list(pool.map(bare, files, chunksize=16))) == len(files)
    return len(files) / (time.perf_counter() - started)


def alternate(files: list[Path], place: Path, pool: ProcessPoolExecutor) -> list[tuple[float, float]]:
    """Rates of both on each part."""
    rates, size = [], len(files) // PARTS
    for number in range(PARTS):
        part, folder = files[number * size : (number + 1) * size], place / f"part-{number}"
        folder.mkdir()
        theirs = bare_rate(part, pool) if number % 2 else 0.0
        ours = ingestion_rate(part, folder)
        rates.append((ours, theirs or bare_rate(part, pool)))
        shutil.rmtree(folder)
    return rates


def peak(files: list[Path], place: Path) -> float:
    """MiB at most in memory while the files are ingested, in a fresh process."""
    part = linked(files, place / f"first-{len(files)}")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_here, part, str(place / f"storage-{len(files)}")).result()


def _peak_here(part: Path, storage: str) -> float:
    ingest(part, storage)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> dict[str, float | str]:
    """Images a second of both, their ratio, and the memory of a tenth and of all."""
    with (
        tempfile.TemporaryDirectory() as place,
        ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool,
    ):
        files = write_images(Path(os.environ.get("BENCH_RAW") or f"{place}/raw"), pool)
        rates = alternate(files, Path(place), pool)
        few, many = (peak(files[:count], Path(place)) for count in (IMAGES // 10, IMAGES))
    ratios = [ours / theirs for ours, theirs in rates]
    return {
        "ingestion, images a second": statistics.median(ours for ours, _ in rates),
        "bare loop, images a second": statistics.median(theirs for _, theirs in rates),
        "ratio, median of the parts": statistics.median(ratios),
        "ratio, lowest and highest": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "files": str(IMAGES),
        "threads, and processes of the loop": str(WORKERS),
        "peak memory of a tenth, MiB": few,
        "peak memory of all, MiB": many,
    }
