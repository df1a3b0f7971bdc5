"""`got why` on random cells of a finished home, each a process of its own, and 100,000 pictures.

The home is that of a run of the recipe `tiny`, made here unless BENCH_HOME names one with the same recipe. Of
each of 20 random cells wall and processor seconds of the whole command are taken, from the start of Python
to its end. Then the home gets BENCH_ROWS training pictures (100,000) in shards of 1,000, with random hashes,
and the same cells are asked for again; the search alone is compared with a loop over the hashes in Python.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from got_core.corpus.duplicates import Fingerprint
from got_core.corpus.schemas import RAW_IMAGES, polars_schema
from got_core.evaluate.why.neighbours import TrainingPrints
from got_core.storage import Storage

ROWS = int(os.environ.get("BENCH_ROWS", "100000"))
CELLS, SHARD = 20, 1000
ROOT = Path(__file__).resolve().parents[1]


def main() -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        _make(home)
        addresses = _addresses(home)
        small = _asked(home, addresses)
        storage = Storage(f"file://{home / 'storage'}")
        _fill(storage)
        return {**small, **_searched(storage), **_asked(home, addresses, f", {ROWS:,} pictures")}


def _got(home: Path, *arguments: str) -> str:
    environment = {**os.environ, "GOT_HOME": str(home), "GOT_RECIPE": "tiny", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "got_assets.cli", *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def _make(home: Path) -> None:
    if given := os.environ.get("BENCH_HOME"):
        shutil.copytree(given, home)
    else:
        _got(home, "run")


def _addresses(home: Path) -> list[str]:
    counts = {"geneval/scenes": 12, "edits/scenes": 6}
    every = [f"{name}/{number:05d}" for name, count in counts.items() for number in range(count)]
    return random.Random(0).choices(every, k=CELLS)


def _asked(home: Path, addresses: list[str], what: str = "") -> dict[str, float | str]:
    _got(home, "why", addresses[0])  # files come from memory afterwards
    walls, used = [], []
    for address in addresses:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        said = _got(home, "why", address)
        walls.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert said.count(" bits") == 5 and "chain: " in said, said
    return {
        f"cell, median, wall s{what}": statistics.median(walls),
        f"cell, slowest, wall s{what}": max(walls),
        f"cell, median, CPU s{what}": statistics.median(used),
        f"cell, slowest, CPU s{what}": max(used),
        f"cells{what}": str(len(walls)),
    }


def _fill(storage: Storage) -> None:
    rng, schema = np.random.default_rng(0), polars_schema(RAW_IMAGES)
    for start in range(0, ROWS, SHARD):
        hashes = rng.integers(2**63, size=SHARD)
        rows = {
            "image_id": [f"{start + row:064x}" for row in range(SHARD)],
            "phash": [f"{one:016x}" for one in hashes],
            "colors": [rng.bytes(48) for _ in range(SHARD)],
        }
        blank = {name: pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in rows}
        frame = pl.DataFrame(rows).with_columns(*blank.values()).select(list(schema)).cast(schema)  # type: ignore[arg-type]
        storage.write_table(f"raw_images/images-{start // SHARD + 100:05d}", frame)


def _searched(storage: Storage) -> dict[str, float | str]:
    query = Fingerprint(f"{random.Random(1).getrandbits(64):016x}", np.zeros(48, np.uint8))
    started = time.perf_counter()
    prints = TrainingPrints.read(storage)
    read = time.perf_counter()
    found = prints.nearest(query, 5)
    ended = time.perf_counter()
    number = int(query.phash, 16)
    least = sorted((one ^ number).bit_count() for one in prints.frame["phash"].to_list())[:5]
    looped = time.perf_counter()
    assert [one.distance for one in found.rows] == least
    return {
        "reading all hashes, s": read - started,
        "search, s": ended - read,
        "a loop in Python, s": looped - ended,
    }
