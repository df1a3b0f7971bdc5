"""Taking ids out of many shards by an index of ids, against looking at every shard, on copies of one storage.

The ids lie in all shards, then in a tenth of them. Afterwards every byte of the storage, parquet unpacked, is
searched for the ids and for their captions. BENCH_SHARDS, BENCH_ROWS (of each) and BENCH_IDS set the sizes
(100, 10000 and 100 are the real measure; a fifth of the rows by default).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from got_core.annotate.ledger_entries import Entry
from got_core.annotate.ledger_segments import put_table
from got_core.corpus.item_index import update_index
from got_core.curate.config import CurateConfig
from got_core.curate.reach import Reach
from got_core.curate.takedown import add_takedowns, take_down
from got_core.storage import Storage

SHARDS = int(os.environ.get("BENCH_SHARDS", "100"))
ROWS = int(os.environ.get("BENCH_ROWS", "2000"))
IDS = int(os.environ.get("BENCH_IDS", "100"))


def id_of(shard: int, row: int) -> str:
    """As those of pictures are."""
    return hashlib.sha256(f"{shard}/{row}".encode()).hexdigest()


def caption_of(shard: int, row: int) -> str:
    """Of no other picture."""
    return f"a photograph of thing {row} beside thing {shard}, in the light of the morning"


def fill(storage: Storage, shards: int, rows: int) -> None:
    """Tables and a ledger for each shard."""
    for number in range(shards):
        shard = f"images-{number:05d}"
        ids = pl.Series("image_id", [id_of(number, row) for row in range(rows)])
        captions = pl.Series("caption", [caption_of(number, row) for row in range(rows)])
        prints = np.random.default_rng(number).integers(0, 2**63, rows, dtype=np.uint64)
        base = pl.DataFrame([ids, ids.str.slice(0, 32).alias("chain_id"), captions])
        phash = pl.Series("phash", [f"{one:016x}" for one in prints])
        raw = pl.DataFrame([ids, phash]).with_columns(
            path=pl.lit("raw/") + ids.str.slice(60), near_duplicate_of=pl.lit(None, pl.String),
            colors=pl.lit(None, pl.Binary),
        )  # fmt: skip
        storage.write_table(f"raw_images/{shard}", raw)
        for table in ("captions", "entities", "boxes", "t2i_chains", "t2i_selection"):
            storage.write_table(f"{table}/{shard}", base)
        put_table(storage, f"ledger/{shard}", {f"r:{row}": _entry(number, row) for row in range(rows)})


def _entry(shard: int, row: int) -> Entry:
    said = {"text": json.dumps({"caption": caption_of(shard, row)}), "image": f"{shard}-{row}", "detail": ""}
    asked = {"step": "caption", "prompt": "p", "model": "m", "revision": "1", "replies": 1}
    spent = {"tokens_in": 9, "tokens_out": 9, "cost": 0.1, "lost": [0, 0, 0.0]}
    return {"kind": "done", "run": "r", "n": row, "key": str(row), **said, **asked, **spent}


def found_in(storage: Storage, words: list[str]) -> set[str]:
    """Files outside of the record that hold one of the words, parquet unpacked."""
    hits = set()
    for name in storage.list():
        data = storage.read_bytes(name)
        if name.endswith(".parquet"):
            frame = pl.read_parquet(io.BytesIO(data))
            data += frame.select(pl.selectors.by_dtype(pl.String)).write_csv().encode()
        if not name.startswith("takedown/") and any(word.encode() in data for word in words):
            hits.add(name)
    return hits


def stamps(storage: Storage) -> dict[str, object]:
    """When each file was written."""
    return {name: storage.modified(name) for name in storage.list()}


def main() -> dict[str, float | str]:
    """Seconds of both ways, shards that were rewritten, and files that still hold anything."""
    found: dict[str, float | str] = {"rows": float(SHARDS * ROWS), "ids": float(IDS)}
    with tempfile.TemporaryDirectory() as folder:
        filled = Path(folder) / "filled"
        storage = Storage(str(filled))
        fill(storage, SHARDS, ROWS)
        update_index(storage, "images", versions())
        for touched in (SHARDS, max(1, SHARDS // 10)):
            by_index = measured(filled, touched, by_the_index=True)
            found |= {f"ids in {touched} shards: {name}": value for name, value in by_index.items()}
        whole = measured(filled, touched, by_the_index=False)
    found |= {f"every shard looked at: {name}": value for name, value in whole.items()}
    return found


def versions() -> dict[str, str]:
    """Data versions of all shards."""
    return {f"images-{number:05d}": "1" for number in range(SHARDS)}


def measured(filled: Path, touched: int, by_the_index: bool) -> dict[str, float]:
    """One takedown on a copy of the storage."""
    gone = [(number % touched, number // touched) for number in range(IDS)]
    words = [*(id_of(*one) for one in gone), *(caption_of(*one) for one in gone)]
    with tempfile.TemporaryDirectory(dir=filled.parent) as folder:
        shutil.copytree(filled, folder, dirs_exist_ok=True)
        storage = Storage(folder)
        add_takedowns(storage, [id_of(*one) for one in gone])
        before, started = stamps(storage), time.perf_counter()
        reach = Reach()
        if by_the_index:
            known = update_index(storage, "images", versions())
            reach = Reach(indices=(known, update_index(storage, "edits", {})))
        take_down(storage, CurateConfig(), {}, reach)
        seconds = time.perf_counter() - started
        changed = {name for name, stamp in stamps(storage).items() if before.get(name, stamp) != stamp}
        shards = {name.split("/")[1].partition(".")[0] for name in changed if "images-" in name}
        left = found_in(storage, words)
    return {"seconds": seconds, "rewritten": float(len(shards)), "files that hold any": float(len(left))}
