"""Exports a shard at a time: what is kept, what is made again, and what a damaged shard does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from got_core.exchange.export_parts import export_file, export_parts, records_bytes
from got_core.storage import Storage

SHARDS = {f"images-{k:05d}": "v1" for k in range(4)}


def rows(shard: str) -> pl.DataFrame:
    return pl.DataFrame({"shard": [shard] * 3, "n": [1, 2, 3], "texts": [["a"], [], None]})


def make(shard: str) -> tuple[int, bytes]:
    return 3, records_bytes(rows(shard), ".parquet")


@pytest.fixture(params=["file", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "file":
        return Storage(str(tmp_path / "out"))
    server: Any = request.getfixturevalue("s3_server")
    return Storage(f"s3://{server.bucket}/out", endpoint_url=server.url)


def test_finished_parts_are_kept_and_changed_ones_made_again(folder: Storage) -> None:
    first = export_parts(folder, "t2i", SHARDS, make, ".parquet")
    assert (first.records, first.made, first.damaged) == (12, [*SHARDS], {})
    seen: list[tuple[int, int]] = []
    again = export_parts(folder, "t2i", SHARDS, make, ".parquet", progress=lambda *one: seen.append(one))
    assert (again.records, again.made) == (12, []) and seen == [(k, 4) for k in (1, 2, 3, 4)]
    changed = {**SHARDS, "images-00002": "v2"}
    assert export_parts(folder, "t2i", changed, make, ".parquet").made == ["images-00002"]
    folder.delete("images-00001.parquet")
    assert export_parts(folder, "t2i", changed, make, ".parquet").made == ["images-00001"]
    assert pl.read_parquet(folder.read_bytes("images-00001.parquet")).equals(rows("images-00001"))


def test_what_is_gone_is_deleted_and_other_files_are_left_alone(folder: Storage) -> None:
    export_parts(folder, "t2i", SHARDS, make, ".parquet")
    export_parts(folder, "edit", {"edits-00000": "v"}, make, ".parquet")
    folder.write_bytes("README.md", b"mine")
    fewer = {name: SHARDS[name] for name in [*SHARDS][:2]}
    assert export_parts(folder, "t2i", fewer, make, ".parquet").records == 6
    assert len(folder.list()) == 2 * 5 + 1, "some shards were asked for, the others stay"
    export_parts(folder, "t2i", fewer, make, ".jsonl", drop_others=True)
    names = [name for name in folder.list() if not name.startswith("_parts/")]
    assert names == ["README.md", "edits-00000.parquet", "images-00000.jsonl", "images-00001.jsonl"]


def test_a_damaged_shard_is_named_and_the_others_are_made(folder: Storage) -> None:
    export_parts(folder, "t2i", SHARDS, make, ".parquet")

    def broken(shard: str) -> tuple[int, bytes]:
        if shard == "images-00001":
            raise ValueError("images-00001.parquet is not a readable parquet file")
        return make(shard)

    newer = dict.fromkeys(SHARDS, "v2")
    found = export_parts(folder, "t2i", newer, broken, ".parquet")
    assert found.records == 9 and found.damaged.keys() == {"images-00001"}
    assert "images-00001.parquet" not in folder.list(), "what may be taken down since does not stay"
    healed = export_parts(folder, "t2i", newer, make, ".parquet")
    assert healed.made == ["images-00001"] and not healed.damaged


def test_a_note_that_is_damaged_makes_its_part_again(folder: Storage) -> None:
    export_parts(folder, "t2i", SHARDS, make, ".parquet")
    folder.write_bytes("_parts/images-00003.json", b'{"kind": "t2i", "fi')
    assert export_parts(folder, "t2i", SHARDS, make, ".parquet").made == ["images-00003"]


def test_a_killed_export_goes_on_with_the_parts_that_are_missing(tmp_path: Path) -> None:
    code = f"""
import os, signal
from tests.got_core.exchange.test_export_parts import SHARDS, Storage, export_parts, make
def dying(shard):
    if shard == "images-00002":
        os.kill(os.getpid(), signal.SIGKILL)
    return make(shard)
export_parts(Storage({str(tmp_path)!r}), "t2i", SHARDS, dying, ".parquet")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    found = export_parts(Storage(str(tmp_path)), "t2i", SHARDS, make, ".parquet")
    assert found.made == ["images-00002", "images-00003"] and found.records == 12
    assert {path.name for path in tmp_path.glob("*.*")} == {f"{name}.parquet" for name in SHARDS}


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_one_file_is_whole_or_not_there(folder: Storage, ending: str) -> None:
    url = f"{folder.url}/all{ending}"
    assert export_file(url, [*SHARDS], rows, **folder.fs_options) == 12
    read = {".jsonl": pl.read_ndjson, ".json": pl.read_json, ".parquet": pl.read_parquet}[ending]
    before = folder.read_bytes(f"all{ending}")
    assert read(before)["shard"].unique().sort().to_list() == [*SHARDS]

    def failing(shard: str) -> pl.DataFrame:
        if shard == "images-00003":
            raise ValueError("broken")
        return rows(shard).head(1)

    with pytest.raises(ValueError, match="broken"):
        export_file(url, [*SHARDS], failing, **folder.fs_options)
    assert folder.read_bytes(f"all{ending}") == before and folder.list() == [f"all{ending}"]


def test_another_name_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"need one of \.jsonl, \.json, \.parquet, or a folder"):
        export_file(str(tmp_path / "x.txt"), [], rows)
