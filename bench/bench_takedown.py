"""Taking ids out of many shards: by the index of ids, and by looking at every shard.

python bench/bench_takedown.py [--shards 100] [--rows 10000] [--ids 100] [--touched 10]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import resource
import tempfile
import time

import numpy as np
import polars as pl

from got_core.annotate.ledger_entries import Entry
from got_core.annotate.ledger_segments import put_table
from got_core.corpus.item_index import update_index
from got_core.curate.config import CurateConfig
from got_core.curate.reach import Reach
from got_core.curate.takedown import add_takedowns, take_down
from got_core.storage import Storage


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


def main() -> None:
    """Print seconds of both ways, their ratio, which shards were rewritten, and what a search finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("shards", 100), ("rows", 10_000), ("ids", 100), ("touched", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        fill(storage, asked.shards, asked.rows)
        versions = {f"images-{number:05d}": "1" for number in range(asked.shards)}
        update_index(storage, "images", versions)
        gone = [(number % asked.touched, number // asked.touched) for number in range(asked.ids)]
        add_takedowns(storage, [id_of(*one) for one in gone])
        before, started = stamps(storage), time.perf_counter()
        reach = Reach(indices=(update_index(storage, "images", versions), update_index(storage, "edits", {})))
        done = take_down(storage, CurateConfig(), {}, reach)
        by_index = time.perf_counter() - started
        changed = {name for name, stamp in stamps(storage).items() if before.get(name, stamp) != stamp}
        shards = {name.split("/")[1].partition(".")[0] for name in changed if "images-" in name}
        left = found_in(storage, [*(id_of(*one) for one in gone), *(caption_of(*one) for one in gone)])
        started = time.perf_counter()
        take_down(storage, CurateConfig(), {})
        whole = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{asked.shards} shards of {asked.rows} rows, {asked.ids} ids in {asked.touched} shards")
        print(f"by the index: {by_index:.2f} s, {sum(done.removed.values())} rows and answers removed")
        print(
            f"shards rewritten: {len(shards)}; files outside of the record that hold any of it: {len(left)}"
        )
        print(
            f"every shard looked at: {whole:.2f} s ({whole / by_index:.1f} times as long); peak {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()
