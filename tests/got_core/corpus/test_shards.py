"""Shard lists: durable, complete, without repetition, also when two processes assign at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import polars as pl
import pytest

from got_core.corpus.config import IngestConfig
from got_core.corpus.shards import assign_edit_shards, assign_image_shards, read_shard, shard_names
from got_core.frame_hash import content_hash
from got_core.storage import Storage

CONFIG = IngestConfig(image_shard_size=4, edit_shard_size=2)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    for number in range(10):
        path = folder / f"d{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(number))
    return folder


def paths(storage: Storage, shard: str) -> list[str]:
    return read_shard(storage, shard)["path"].to_list()


def test_files_are_cut_into_shards_by_path(raw: Path, storage: Storage) -> None:
    names = assign_image_shards(storage, str(raw), CONFIG)
    assert names == shard_names(storage, "images") == ["images-00000", "images-00001", "images-00002"]
    assert [len(paths(storage, name)) for name in names] == [4, 4, 2]
    assert [path for name in names for path in paths(storage, name)] == sorted(
        path.relative_to(raw).as_posix() for path in raw.rglob("*.png")
    )


def test_new_and_changed_files_are_appended_and_old_lists_stay(raw: Path, storage: Storage) -> None:
    before = assign_image_shards(storage, str(raw), CONFIG)
    hashes = [content_hash(read_shard(storage, name)) for name in before]
    assert assign_image_shards(storage, str(raw), CONFIG) == before
    (raw / "a new one.png").write_bytes(b"new")
    os.utime(raw / "d0" / "3.png", (1e9, 1e9))
    (raw / "d1" / "4.png").unlink()
    after = assign_image_shards(storage, str(raw), CONFIG)
    assert after == [*before, "images-00003"]
    assert paths(storage, "images-00003") == ["a new one.png", "d0/3.png"]
    assert [content_hash(read_shard(storage, name)) for name in before] == hashes


def test_hidden_files_and_those_of_the_config_are_no_input(raw: Path, storage: Storage) -> None:
    for name in (".DS_Store.png", "Thumbs.db", ".git/config.png", "draft 1.png", "d0/draft 2.png"):
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).write_bytes(b"x")
    config = IngestConfig(image_shard_size=20, ignore=(*CONFIG.ignore, "draft*"))
    [shard] = assign_image_shards(storage, str(raw), config)
    assert sorted(PurePosixPath(path).name for path in paths(storage, shard)) == [
        f"{n}.png" for n in range(10)
    ]


def test_an_empty_folder_has_no_shards_and_a_missing_one_is_an_error(
    tmp_path: Path, storage: Storage
) -> None:
    (tmp_path / "empty").mkdir()
    assert assign_image_shards(storage, str(tmp_path / "empty"), CONFIG) == []
    with pytest.raises(FileNotFoundError, match="GOT_RAW"):
        assign_image_shards(storage, str(tmp_path / "absent"), CONFIG)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="GOT_RAW"):
        assign_image_shards(storage, str(tmp_path / "file"), CONFIG)
    with pytest.raises(FileNotFoundError, match="GOT_RAW"):
        assign_image_shards(storage, "memory://nowhere/at/all", CONFIG)


def test_many_assigning_at_once_lose_and_repeat_nothing(tmp_path: Path, storage: Storage) -> None:
    def assign(worker: int) -> None:
        # Each sees other files, as when files arrive between one process's look and the next one's.
        folder = tmp_path / f"raw{worker}"
        folder.mkdir()
        for number in range(8):
            (folder / f"{worker}-{number}.png").write_bytes(b"x")
        assign_image_shards(Storage(storage.url), str(folder), IngestConfig(image_shard_size=1))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(assign, range(6)))
    listed = sorted(path for name in shard_names(storage, "images") for path in paths(storage, name))
    assert listed == sorted(f"{worker}-{number}.png" for worker in range(6) for number in range(8))


TABLE = "source,target,instruction\na.png,b.png,one\na.png,c.png,two\na.png,b.png,one\na.png,d.png,three\n"


def test_pair_rows_are_listed_once_by_content_in_order(tmp_path: Path, storage: Storage) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(TABLE)
    names = assign_edit_shards(storage, str(table), CONFIG)
    assert names == ["edits-00000", "edits-00001"] == shard_names(storage, "edits")
    listed = pl.concat([read_shard(storage, name) for name in names])
    assert listed.select("instruction", "row", "rows").rows() == [
        ("one", 1, 2),
        ("two", 2, 1),
        ("three", 4, 1),
    ]
    table.write_text("source,target,instruction\na.png,e.png,zero\n" + TABLE.split("\n", 1)[1])
    assert assign_edit_shards(storage, str(table), CONFIG) == [*names, "edits-00002"]
    assert read_shard(storage, "edits-00002")["instruction"].to_list() == ["zero"]


def test_parquet_and_csv_tables_are_the_same(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "pairs.csv").write_text(TABLE)
    pl.read_csv(tmp_path / "pairs.csv").write_parquet(tmp_path / "pairs.parquet")
    names = assign_edit_shards(storage, str(tmp_path / "pairs.csv"), CONFIG)
    assert assign_edit_shards(storage, f"file://{tmp_path / 'pairs.parquet'}", CONFIG) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"source,instruction\na,b\n", r"pairs\.csv has no column target.*has source, instruction"),
        (b"", r"pairs\.csv is empty"),
        (b"source,target,instruction\n\xff\xfe,b,c\n", r"pairs\.csv cannot be read.*UTF-8"),
        (b"source,target,instruction\na,b,c,d,e\n", r"pairs\.csv cannot be read"),
    ],
)
def test_an_unusable_pair_table_is_one_clear_error(
    tmp_path: Path, storage: Storage, content: bytes, message: str
) -> None:
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        assign_edit_shards(storage, str(tmp_path / "pairs.csv"), CONFIG)


def test_a_missing_pair_table_is_named(tmp_path: Path, storage: Storage) -> None:
    with pytest.raises(FileNotFoundError, match="GOT_EDITS"):
        assign_edit_shards(storage, str(tmp_path / "pairs.csv"), CONFIG)
