"""The search by perceptual hash against counting the bits of each pair."""

from __future__ import annotations

import numpy as np
import polars as pl

from got_core.corpus.duplicates import Fingerprint
from got_core.evaluate.why.neighbours import TrainingPrints
from got_core.storage import Storage

COUNT = 600


def write_tables(storage: Storage, rng: np.random.Generator) -> dict[str, tuple[int, bytes | None]]:
    """Hash and colours of each picture, by id; written as three shards of images and one of pairs."""
    known: dict[str, tuple[int, bytes | None]] = {}

    def some(name: str) -> tuple[str, str, bytes | None]:
        number = int(rng.integers(2**63)) & ~0xFFFF  # few unlike distances
        colors = None if rng.random() < 0.1 else rng.integers(0, 256, 48, dtype=np.uint8).tobytes()
        known[name] = (number, colors)
        return name, f"{number:016x}", colors

    for shard in range(3):
        rows = [some(f"image-{shard}-{row}") for row in range(COUNT // 3)]
        frame = pl.DataFrame(rows, schema=["image_id", "phash", "colors"], orient="row").with_columns(
            pl.lit(None, pl.String).alias("error")
        )
        bad = pl.DataFrame(
            {"image_id": ["bad"], "phash": ["0" * 16], "colors": [None], "error": ["unreadable"]}
        )
        storage.write_table(f"raw_images/images-{shard:05d}", pl.concat([frame, bad.cast(frame.schema)]))
    pairs = [(f"pair-{row}", *some(f"source-{row}"), *some(f"target-{row}")) for row in range(40)]
    names = [
        "pair_id",
        "source_id",
        "source_phash",
        "source_colors",
        "target_id",
        "target_phash",
        "target_colors",
    ]
    frame = pl.DataFrame(pairs, schema=names, orient="row").with_columns(
        pl.lit(None, pl.String).alias("error")
    )
    storage.write_table("edit_pairs/edits-00000", frame)
    return known


def test_the_nearest_are_those_of_the_fewest_bits_then_of_the_likest_colours(storage: Storage) -> None:
    rng = np.random.default_rng(3)
    known = write_tables(storage, rng)
    prints = TrainingPrints.read(storage)
    assert prints.frame.height == COUNT + 80 and prints.missing == ()
    for _ in range(20):
        colors = rng.integers(0, 256, 48, dtype=np.uint8)
        query = Fingerprint(f"{int(rng.integers(2**63)):016x}", colors)

        def key(name: str, query: Fingerprint = query, colors: np.ndarray = colors) -> tuple[int, float, str]:
            number, grid = known[name]
            levels = np.inf
            if grid is not None:
                levels = np.abs(np.frombuffer(grid, np.uint8).astype(int) - colors).mean()
            return (number ^ int(query.phash, 16)).bit_count(), float(levels), name

        wanted = sorted(known, key=key)
        found = prints.nearest(query, 7)
        assert [one.image_id for one in found.rows] == wanted[:7] and found.hidden == 0
        assert [one.distance for one in found.rows] == [key(name)[0] for name in wanted[:7]]
        hidden = prints.nearest(query, 5, hidden=wanted[:3])
        assert not {one.image_id for one in hidden.rows} & set(wanted[:3]) and hidden.hidden >= 3


def test_more_than_there_are_and_none(storage: Storage) -> None:
    write_tables(storage, np.random.default_rng(4))
    query = Fingerprint("0" * 16, np.zeros(48, np.uint8))
    prints = TrainingPrints.read(storage)
    assert len(prints.nearest(query, 10_000).rows) == COUNT + 80
    assert prints.nearest(query, 0).rows == ()
    assert TrainingPrints(prints.frame.clear()).nearest(query, 3).rows == ()


def test_tables_from_before_there_were_colours(storage: Storage) -> None:
    frame = pl.DataFrame({"image_id": ["a", "b"], "phash": ["0" * 16, "f" * 16]})
    storage.write_table("raw_images/images-00000", frame.with_columns(pl.lit(None, pl.String).alias("error")))
    query = Fingerprint("0" * 15 + "1", np.zeros(48, np.uint8))
    found = TrainingPrints.read(storage).nearest(query, 2).rows
    assert [(one.image_id, one.distance, one.color) for one in found] == [("a", 1, None), ("b", 63, None)]
