"""Start of a worker on a manifest of a million rows: mapped from its file, against a frame unpickled.

Each is a fresh process that makes the rows, groups and buckets of a stage like the paper's; counted are its
seconds, and its private memory (USS) at the end above that of a process whose manifest has one row. The plain
way is what a worker does that gets the frame among its arguments: it holds the frame, and reads kinds, ids,
sizes and chains of all rows from it. Modules are there before the clock starts. BENCH_ROWS sets the number of
rows, of about 1.3 KB each; a twentieth are edits.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from got_core.corpus.config import IngestConfig
from got_core.model.buckets import bucket_sizes, nearest_bucket
from got_core.storage import Storage
from got_core.train.data.columns import held_out_place
from got_core.train.data.manifest_file import MappedManifest, write_manifest
from got_core.train.data.samples import TrainingData
from got_core.train.mixture import resolve, sources_of

ROWS = int(os.environ.get("BENCH_ROWS", "1000000"))
RESOLUTION, MULTIPLE, HELD_OUT = 1024, 64, 0.01
MIXTURE = {"t2i": 0.8, "single-turn": 0.1, "multi-turn": 0.1}
HASH = "bench"
WORDS = ("a", "the", "wooden", "tall", "blue", "lamp", "table", "window", "street", "dog", "under", "beside")
EDIT = "1. a circle. 2. the circle (1,1),(9,9), blue 3. the sky (0,0),(999,99), made grey 4. done."


def made_up_manifest(rows: int) -> pl.DataFrame:
    """Rows with the columns, sizes and lengths of text of a real manifest; from a seed."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 90)) for _ in range(997)]
    chains = [
        " ".join(f"{text[9 * k : 9 * k + 60]} (10,{20 + k}),(300,999)," for k in range(5)) for text in texts
    ]
    edit, pick = rng.random(rows) < 0.05, rng.integers(0, len(texts), rows)
    ids = pl.Series(np.arange(rows)).cast(pl.String).str.zfill(64)
    return pl.DataFrame(
        {
            "sample_id": "chain-" + ids,
            "kind": np.where(edit, "edit", "t2i"),
            "shard": "images-" + pl.Series(np.arange(rows) // 10_000).cast(pl.String),
            "target_path": "pictures/folder/" + ids + ".jpg",
            "width": rng.integers(300, 2000, rows).astype(np.int32),
            "height": rng.integers(300, 2000, rows).astype(np.int32),
            "prompt": pl.Series(texts)[pick].str.slice(0, 280),
            "chain": pl.select(
                pl.when(pl.Series(edit)).then(pl.lit(EDIT)).otherwise(pl.Series(chains)[pick])
            ).to_series(),
            "image_id": ids,
            "source": pl.Series([f"source-{k}" for k in range(12)])[rng.integers(0, 12, rows)],
        }
    ).with_columns(instructions=pl.concat_list("prompt"))


def mapped(folder: str) -> object:
    """What a worker makes of the file."""
    manifest = MappedManifest(Path(folder) / "manifest", HASH)
    data = TrainingData(
        manifest, "", None, IngestConfig(), RESOLUTION, geometry="bucket", bucket_multiple=MULTIPLE,
        held_out=HELD_OUT,
    )  # fmt: skip
    return data, data.groups(MIXTURE)


def unpickled(folder: str) -> object:
    """What a worker makes of a frame among its arguments."""
    manifest: pl.DataFrame = pickle.loads((Path(folder) / "manifest.pickle").read_bytes())
    kinds = manifest["kind"].to_numpy()
    held = np.array([held_out_place(one) < HELD_OUT for one in manifest["sample_id"]])
    of_kind = {kind: np.flatnonzero((kinds == kind) & ~held) for kind in ("t2i", "edit")}
    sizes = bucket_sizes(RESOLUTION, MULTIPLE)
    pictures = manifest.select("width", "height")
    nearest = {size: nearest_bucket(size, sizes) for size in pictures.unique().iter_rows()}
    buckets = np.array([nearest[size] for size in pictures.iter_rows()], dtype=np.int16)
    sources = sources_of(manifest, MIXTURE).with_columns(
        rows=pl.when(pl.Series(held)).then(0).otherwise("rows")
    )
    resolve(sources, MIXTURE)
    wanted = [pl.col("kind") == "t2i", pl.col("turns") == "single", pl.col("turns") == "multi"]
    rows = [sources.select(pl.arg_where(one)).to_series().to_numpy() for one in wanted]
    never = np.full(len(manifest), 2**62)
    return manifest, of_kind, buckets, never, [one[~held[one]] for one in rows]


WAYS: dict[str, Callable[[str], object]] = {"mapped": mapped, "unpickled": unpickled}


def private_megabytes() -> float:
    """10^6 bytes of this process alone."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / 1e6


def worker(way: str, folder: str) -> None:
    """Print the seconds and private memory of a start."""
    started = time.perf_counter()
    kept = WAYS[way](folder)
    seconds = time.perf_counter() - started
    print(json.dumps([seconds, private_megabytes()]))
    del kept


def started(way: str, folder: Path) -> tuple[float, float]:
    """Seconds and private megabytes of a fresh process."""
    command = [sys.executable, "-m", "bench.bench_worker_start", way, str(folder)]
    seconds, megabytes = json.loads(subprocess.check_output(command, text=True))
    return seconds, megabytes


def written(folder: Path, rows: int) -> tuple[float, float]:
    """Both forms of a manifest in a folder; seconds of writing the file, and bytes of a row in it."""
    frame = made_up_manifest(rows)
    began = time.perf_counter()
    write_manifest(Storage(str(folder)), "manifest", frame, HASH)
    seconds = time.perf_counter() - began
    with open(folder / "manifest.pickle", "wb") as file:
        pickle.dump(frame, file, protocol=5)
    size = sum(path.stat().st_size for path in (folder / "manifest").iterdir())
    return seconds, size / rows


def main() -> dict[str, float | str]:
    """Seconds and private megabytes of both ways."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as many:
        written(Path(one), 40)
        seconds, size = written(Path(many), ROWS)
        figures: dict[str, float | str] = {
            "rows": float(ROWS),
            "bytes a row": size,
            "writing the file, seconds": seconds,
        }
        for way in WAYS:
            _, empty = started(way, Path(one))
            taken, full = started(way, Path(many))
            figures |= {f"{way}, seconds": taken, f"{way}, private MB": full - empty}
    return figures


if __name__ == "__main__":
    worker(*sys.argv[1:])
