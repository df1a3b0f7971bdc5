"""Tars of pictures whose files take 20 ms to come, read one after the other and side by side.

Both sides write the same bytes. BENCH_PICTURES sets how many there are.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from got_core.corpus.ahead import IO_THREADS
from got_core.corpus.schemas import frame_of
from got_core.curate.schemas import MANIFEST
from got_core.curate.training_shards import write_training_shards
from got_core.storage import Storage

PICTURES = int(os.environ.get("BENCH_PICTURES", "300"))
SECONDS = 0.02


class Far:
    """Files in memory that take a while."""

    def __init__(self) -> None:
        self.files = {f"{k}.jpg": picture(k) for k in range(PICTURES)}

    def read_bytes(self, path: str) -> bytes:
        time.sleep(SECONDS)
        return self.files[path]


def picture(number: int) -> bytes:
    coarse = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((384, 384), Image.Resampling.BILINEAR).save(buffer, "JPEG")
    return buffer.getvalue()


def manifest(far: Far) -> pl.DataFrame:
    rows = [
        {"sample_id": f"t{k:05d}", "kind": "t2i", "target_path": path, "prompt": "p", "chain": "c"}
        | {"image_id": hashlib.sha256(data).hexdigest(), "shard": "images-00000"}
        for k, (path, data) in enumerate(far.files.items())
    ]
    return frame_of([{name: row.get(name) for name in MANIFEST} for row in rows], MANIFEST)


def written(folder: Path, far: Far, rows: pl.DataFrame, threads: int) -> tuple[float, list[bytes]]:
    """Seconds, and the tars."""
    storage, started = Storage(str(folder)), time.perf_counter()
    write_training_shards(storage, "images-00000", rows, {"t2i": far}, io_threads=threads)
    seconds = time.perf_counter() - started
    return seconds, [storage.read_bytes(name) for name in storage.list() if name.endswith(".tar")]


def main() -> dict[str, float | str]:
    """Ratio of seconds."""
    far = Far()
    rows = manifest(far)
    with tempfile.TemporaryDirectory() as folder:
        alone, one = written(Path(folder) / "a", far, rows, 1)
        beside, many = written(Path(folder) / "b", far, rows, IO_THREADS)
    assert one == many and one, "other bytes"
    return {"ratio of seconds": alone / beside, "files at once": str(IO_THREADS)}
