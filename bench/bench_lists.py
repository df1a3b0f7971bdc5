"""Looking up ids of a list among the rows of many shards: by the index of ids, and by reading all tables.

python bench/bench_lists.py [--shards 100] [--rows 10000] [--ids 100]
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time

import polars as pl

from got_core.corpus.item_index import update_index
from got_core.storage import Storage


def ids_of(shard: int, rows: int) -> list[str]:
    """Ids as those of pictures are."""
    return [hashlib.sha256(f"{shard}/{row}".encode()).hexdigest() for row in range(rows)]


def main() -> None:
    """Print seconds of both ways, their ratio, and what the index takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("shards", 100), ("rows", 10_000), ("ids", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        shards = [f"images-{number:05d}" for number in range(asked.shards)]
        for number, shard in enumerate(shards):
            ids = ids_of(number, asked.rows)
            storage.write_table(f"raw_images/{shard}", pl.DataFrame({"image_id": ids}))
            storage.write_table(f"t2i_chains/{shard}", pl.DataFrame({"chain_id": [one[:32] for one in ids]}))
        versions = dict.fromkeys(shards, "1")
        wanted = [ids_of(number, 1)[0] for number in range(min(asked.ids, asked.shards))]
        started = time.perf_counter()
        update_index(storage, "images", versions)
        made = time.perf_counter() - started
        started = time.perf_counter()
        by_index = update_index(storage, "images", versions).places(wanted)
        looked_up = time.perf_counter() - started
        started = time.perf_counter()
        tables = [
            storage.read_table(f"raw_images/{shard}").filter(pl.col("image_id").is_in(wanted))
            for shard in shards
        ]
        read = time.perf_counter() - started
        assert by_index.height == sum(table.height for table in tables) == len(wanted)
        size = sum(len(storage.read_bytes(name)) for name in storage.list("item_index/"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{asked.shards} shards of {asked.rows} rows, {len(wanted)} ids")
        print(f"index: made in {made:.2f} s, {size / 1e6:.1f} MB; looked up in {looked_up:.3f} s")
        print(f"all tables read: {read:.3f} s ({read / looked_up:.1f} times as long); peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
