"""Reading for training: tars through decoder processes against bare loops, and the time that training waits.

First: passes of samples from local tars through two decoder processes (read, decoded, resized to 512 pixels,
in tokens, sent), against two processes that decode and resize the same bytes and send nothing. Both take
turns; what the decoders had ready before a turn does not count. Then: steps of a stand-in model that sleeps
150 ms, batches of 4 JPEGs of 512 pixels in a storage that answers after 30 ms: tars through decoder
processes, against the same pictures opened one by one in the training process (a look and a read each).
"""

from __future__ import annotations

import hashlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from bench.bench_ingest import write_image
from bench.slow_s3 import slow_s3
from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import decode_image
from got_core.corpus.reader import ImageReader
from got_core.corpus.schemas import polars_schema
from got_core.curate.schemas import MANIFEST
from got_core.curate.training_shards import write_training_shards
from got_core.filesystems import open_filesystem
from got_core.model.build import fresh_pipeline
from got_core.model.sequence import SequenceBuilder
from got_core.model.tokens import train_tokenizer
from got_core.recipes import tiny
from got_core.storage import Storage
from got_core.train.cpu_time import Stopwatch
from got_core.train.data.loading import PassLoader
from got_core.train.data.manifest import MemoryManifest
from got_core.train.data.order import DrawOrder
from got_core.train.data.passes import PassOrder, PassReader
from got_core.train.data.pictures import PictureCare
from got_core.train.data.samples import TrainingData
from got_core.train.data.sources.places import find_places

IMAGES, SIDE, BATCH = int(os.environ.get("BENCH_IMAGES", "400")), 512, 4
DECODERS, PREFETCH, TURNS = 2, 2, 7
STEPS, STEP_SECONDS, ANSWER_SECONDS = 60, 0.15, 0.03
CHAIN = "a red circle (100,100),(400,400) and a blue cross (500,500),(900,900)"
CONFIG = IngestConfig()


def manifest_of(folder: Path) -> pl.DataFrame:
    """A row for each picture of a folder."""
    rows = [
        {
            "sample_id": path.stem,
            "kind": "t2i",
            "shard": "images-00000",
            "target_path": path.name,
            "width": Image.open(path).width,
            "height": Image.open(path).height,
            "prompt": "a red circle and a blue cross",
            "instructions": ["a red circle and a blue cross"],
            "chain": CHAIN,
            "image_id": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.iterdir())
    ]
    schema = polars_schema(MANIFEST)
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def packed(folder: Path, storage: Storage) -> TrainingData:
    """The pictures of a folder, from tars in a storage."""
    frame = manifest_of(folder)
    write_training_shards(storage, "images-00000", frame, {"t2i": ImageReader(folder, CONFIG)})
    places = find_places(storage, MemoryManifest(frame))
    assert places is not None and places.packed == frame.height
    return TrainingData(
        frame,
        str(folder / "gone"),  # whatever is not in a tar fails
        None,
        CONFIG,
        SIDE,
        store_url=storage.url,
        store_options=storage.fs_options,
        care=PictureCare(),
        places=places,
    )


def sequences() -> SequenceBuilder:
    """Of a tiny model."""
    config = tiny().model
    return fresh_pipeline(config, train_tokenizer([CHAIN], config.image_tokens)).sequences


@contextmanager
def loader_of(data: TrainingData) -> Any:
    """Passes of BATCH samples, one a step, through decoder processes."""
    rows = data.of_kind["t2i"]
    order = DrawOrder([len(rows)], [1.0], samples=BATCH, seed=0)

    def orders(step: int) -> list[PassOrder]:
        chosen = tuple(int(row) for row in rows[order.places(step)])
        indices = tuple(range(step * BATCH, (step + 1) * BATCH))
        return [PassOrder(step=step, pool=0, indices=indices, rows=chosen, learning=BATCH)]

    reader = PassReader(data, sequences(), [(rows, rows, rows)], seed=0)
    loader = PassLoader(reader, orders, decoders=DECODERS, prefetch=PREFETCH)
    try:
        yield loader
    finally:
        loader.close()


# -- how many samples a second ----------------------------------------------------------------------------


def bare(data: bytes) -> tuple[int, int]:
    """The least that reading has to do for a picture."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).shape[:2]


def throughput(place: Path) -> dict[str, float | str]:
    """Samples a second of both ways, turn by turn."""
    raw = place / "raw"
    raw.mkdir()
    for index in range(IMAGES):
        write_image(raw, index)
    files = [path.read_bytes() for path in sorted(raw.iterdir())]
    data, per_turn = packed(raw, Storage(str(place / "tars"))), IMAGES // BATCH
    with (
        loader_of(data) as loader,
        ProcessPoolExecutor(DECODERS, mp_context=get_context("spawn")) as pool,
    ):
        list(pool.map(bare, files[:16]))
        step, rates = 0, []
        for turn in range(TURNS + 1):
            theirs = len(files) / _seconds(lambda: list(pool.map(bare, files, chunksize=BATCH)))
            ready = 2 * DECODERS * PREFETCH  # and as many again
            _read(loader, step, ready)
            ours = per_turn * BATCH / _seconds(lambda: _read(loader, step + ready, per_turn))  # noqa: B023
            step += ready + per_turn
            time.sleep(1.0)  # until as many are ready as may be
            if turn:
                rates.append((ours, theirs))
    ratios = [ours / theirs for ours, theirs in rates]
    return {
        "tars, samples a second": statistics.median(ours for ours, _ in rates),
        "bare loop, samples a second": statistics.median(theirs for _, theirs in rates),
        "ratio, median of the turns": statistics.median(ratios),
        "ratio, lowest and highest": f"{min(ratios):.2f} to {max(ratios):.2f}",
    }


def _read(loader: PassLoader, first: int, steps: int) -> None:
    for step in range(first, first + steps):
        loader.step(step)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# -- how long training waits ------------------------------------------------------------------------------


def waiting(place: Path) -> dict[str, float | str]:
    """Share of the time that training waits, of both ways, in three turns each."""
    raw = place / "small"
    raw.mkdir()
    for index in range(160):
        write_small(raw / f"{index:04d}.jpg", index)
    with slow_s3(ANSWER_SECONDS) as url:
        options = {"endpoint_url": url, "key": "testing", "secret": "testing"}
        open_filesystem("s3://bench", **options)[0].mkdir("bench")
        storage = Storage("s3://bench/got", **options)
        data = packed(raw, storage)
        storage.upload(raw, "raw")
        one_by_one = opened_one_by_one("s3://bench/got/raw", options, sorted(raw.iterdir()))
        shares: dict[str, list[float]] = {"ahead": [], "one by one": []}
        with loader_of(data) as loader:
            for turn in range(3):
                first = turn * STEPS
                loader.step(first)
                time.sleep(2.0)  # what is ready ahead is not missing from the turn before
                shares["ahead"].append(_waiting_share(lambda k, f=first: loader.step(f + 1 + k)))
                shares["one by one"].append(_waiting_share(one_by_one))
    return {
        "waiting, tars ahead": statistics.median(shares["ahead"]),
        "waiting, one by one": statistics.median(shares["one by one"]),
        "waiting, tars ahead, all turns": ", ".join(f"{one:.4f}" for one in shares["ahead"]),
    }


def write_small(path: Path, index: int) -> None:
    """A JPEG of SIDE pixels."""
    write_image(path.parent, index)
    made = path.parent / f"{index:06d}.jpg"
    Image.open(made).resize((SIDE, SIDE)).save(path, quality=90)
    made.unlink()


def opened_one_by_one(url: str, options: dict[str, Any], files: list[Path]) -> Callable[[int], object]:
    """The pictures of a step, each opened (which asks for its size first), read and decoded in turn."""
    fs, root = open_filesystem(url, **options)

    def step(number: int) -> list[np.ndarray]:
        found = []
        for k in range(BATCH):
            with fs.open(f"{root}/{files[(number * BATCH + k) % len(files)].name}", "rb") as file:
                found.append(np.asarray(decode_image(file.read(), CONFIG)))
        return found

    return step


def _waiting_share(passes: Callable[[int], object]) -> float:
    """Share of the time of STEPS - 1 steps that goes into passes."""
    waited, started = Stopwatch(), time.monotonic()
    for number in range(STEPS - 1):
        with waited:
            passes(number)
        time.sleep(STEP_SECONDS)
    return waited.seconds / (time.monotonic() - started)


def main() -> dict[str, float | str]:
    """Samples a second, and shares of waiting."""
    with tempfile.TemporaryDirectory() as folder:
        return throughput(Path(folder)) | waiting(Path(folder))
