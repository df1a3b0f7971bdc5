"""A raw folder that was copied, restored or moved: new dates, the same shards."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import polars as pl
import pytest

from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ingest_images
from got_core.corpus.shards import assign_image_shards, read_shard
from got_core.corpus.sweep import sweep_step
from got_core.frame_hash import content_hash
from got_core.storage import Storage
from tests.got_core.corpus.pictures import png

CONFIG = IngestConfig(image_shard_size=4, workers=2)
LATER = 2e9


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    for number in range(6):
        path = folder / f"d{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    (folder / "d0" / "broken.png").write_bytes(b"no picture")
    return folder


def ingested(storage: Storage, raw: Path) -> dict[str, pl.DataFrame]:
    """Assign, ingest and store every shard, as the graph does."""
    shards = assign_image_shards(storage, str(raw), CONFIG)
    tables = {shard: ingest_images(storage, str(raw), shard, CONFIG) for shard in shards}
    for shard, table in tables.items():
        storage.write_table(f"raw_images/{shard}", table)
    return tables


def moved(raw: Path) -> Path:
    """A copy elsewhere, with dates of its own, as `cp -r` makes."""
    there = raw.parent / "elsewhere" / "raw"
    shutil.copytree(raw, there)
    for path in there.rglob("*"):
        os.utime(path, (LATER, LATER))
    return there


def hashes(tables: dict[str, pl.DataFrame]) -> dict[str, str]:
    return {shard: content_hash(table) for shard, table in tables.items()}


def test_a_copied_folder_keeps_its_shards_and_gives_the_same_tables(raw: Path, storage: Storage) -> None:
    before = ingested(storage, raw)
    lists = {shard: content_hash(read_shard(storage, shard)) for shard in before}
    there = moved(raw)
    assert assign_image_shards(storage, str(there), CONFIG) == [*before]
    assert hashes(ingested(storage, there)) == hashes(before)
    assert {shard: content_hash(read_shard(storage, shard)) for shard in before} == lists


def test_a_changed_file_of_the_same_size_is_new_and_the_others_are_not(raw: Path, storage: Storage) -> None:
    before = ingested(storage, raw)
    there = moved(raw)
    changed = bytearray((there / "d1" / "3.png").read_bytes())
    changed[-5] ^= 1
    (there / "d1" / "3.png").write_bytes(changed)
    *old, new = assign_image_shards(storage, str(there), CONFIG)
    assert old == [*before]
    assert read_shard(storage, new)["path"].to_list() == ["d1/3.png"]
    rows = pl.concat([ingest_images(storage, str(there), shard, CONFIG) for shard in old])
    assert rows.filter(pl.col("reason") == "changed")["path"].to_list() == ["d1/3.png"]


def test_files_are_compared_once(raw: Path, storage: Storage) -> None:
    before = ingested(storage, raw)
    there = moved(raw)
    assert sweep_step(storage, str(there), CONFIG) == [*before]
    for path in there.rglob("*.png"):
        path.write_bytes(b"?" * path.stat().st_size)
        os.utime(path, (LATER, LATER))
    # By path, size and date they are known: nothing opens them any more.
    assert sweep_step(storage, str(there), CONFIG) == [*before]


def test_a_folder_may_move_twice(raw: Path, storage: Storage) -> None:
    before = ingested(storage, raw)
    assert assign_image_shards(storage, str(moved(raw)), CONFIG) == [*before]
    for path in raw.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    assert hashes(ingested(storage, raw)) == hashes(before)


def test_what_was_not_ingested_is_listed_again(raw: Path, storage: Storage) -> None:
    before = assign_image_shards(storage, str(raw), CONFIG)
    assert len(assign_image_shards(storage, str(moved(raw)), CONFIG)) == 2 * len(before)


@pytest.mark.parametrize("swapped", [False, True])
def test_tars_are_compared_member_by_member(raw: Path, storage: Storage, swapped: bool) -> None:
    path = raw.parent / "tars" / "a.tar"
    path.parent.mkdir()

    def write(names: list[str]) -> None:
        with tarfile.open(path, "w") as tar:
            for name in names:
                info = tarfile.TarInfo(f"{name}.png")
                info.size = len(data := png(int(name)))
                tar.addfile(info, io.BytesIO(data))

    write(["1", "2"])
    before = ingested(storage, path)
    size = path.stat().st_size
    write(["3", "2"] if swapped else ["1", "2"])
    os.utime(path, (LATER, LATER))
    assert path.stat().st_size == size
    after = assign_image_shards(storage, str(path), CONFIG)
    assert len(after) == len(before) + swapped
    if not swapped:
        assert hashes(ingested(storage, path)) == hashes(before)
