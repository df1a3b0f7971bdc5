"""Ingestion of JPEG files against a bare loop that reads, decodes and hashes them with as many threads.

Five alternations; the median of each side counts.
"""

from __future__ import annotations

import hashlib
import io
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ingest_images
from got_core.corpus.shards import assign_image_shards
from got_core.storage import Storage

IMAGES, SIDE, ROUNDS = 200, 1024, 5


def write_images(folder: Path) -> None:
    """Smooth random pictures with some noise: about as large as photographs."""
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((SIDE, SIDE * 3 // 4), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = (pixels + rng.integers(-12, 13, pixels.shape, dtype=np.int16)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{index:05d}.jpg", quality=90)


def bare(path: Path) -> tuple[str, str]:
    """The least that ingestion has to do for a file."""
    data = path.read_bytes()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return hashlib.sha256(data).hexdigest(), str(imagehash.phash(image))


def main() -> dict[str, float | str]:
    """Images a second of both, and their ratio."""
    workers = min(8, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as place:
        raw = Path(place) / "raw"
        raw.mkdir()
        write_images(raw)
        storage, config = Storage(f"file://{place}/storage"), IngestConfig(image_shard_size=IMAGES)
        shard = assign_image_shards(storage, str(raw), config)[0]
        ours, theirs = [], []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            frame = ingest_images(storage, str(raw), shard, config)
            ours.append(IMAGES / (time.perf_counter() - started))
            assert frame["error"].is_null().all()
            started = time.perf_counter()
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(bare, sorted(raw.iterdir())))
            theirs.append(IMAGES / (time.perf_counter() - started))
    ingested, looped = statistics.median(ours), statistics.median(theirs)
    return {
        "ingestion, images a second": ingested,
        "bare loop, images a second": looped,
        "ratio": ingested / looped,
        "threads": str(workers),
    }
