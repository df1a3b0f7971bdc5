"""Tars of samples: written, read at random, stopped, and rid of what must go."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import time
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.members import Member
from got_core.corpus.reader import ImageReader
from got_core.corpus.sample_tars import read_index, read_sample
from got_core.corpus.schemas import SHARD_INDEX, check_schema
from got_core.curate.schemas import MANIFEST
from got_core.curate.training_shards import (
    ByteReader,
    TarConfig,
    remove,
    write_training_shards,
)
from got_core.storage import Storage
from tests.got_core.annotate.scenes_on_hand import table

TWO = TarConfig(samples_per_tar=2)


def png(color: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (color, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Readers(dict[str, ImageReader]):
    """Both kinds read the same folder; what is read is counted."""

    def __init__(self, folder: Path) -> None:
        self.read: list[str] = []
        reader = ImageReader(folder, IngestConfig())

        class Counting:
            def read_bytes(_, path: str) -> bytes:
                self.read.append(path)
                return reader.read_bytes(path)

        super().__init__(t2i=Counting(), edit=Counting())  # type: ignore[arg-type]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for k in range(12):
        (folder / f"{k}.png").write_bytes(png(20 * k))
    return folder


def manifest_of(raw: Path, numbers: list[int], edits: list[int] = []) -> pl.DataFrame:  # noqa: B006
    rows = [
        {
            "sample_id": f"t{k:02d}",
            "kind": "t2i",
            "shard": "images-00000",
            "target_path": f"{k}.png",
            "prompt": f"prompt {k} ü",
            "instructions": [f"prompt {k} ü"],
            "chain": f"a thing (1,2),({k + 30},40)",
            "image_id": sha(png(20 * k)),
            "source": "web",
            "licence": "CC0",
        }
        for k in numbers
    ]
    rows += [
        {
            "sample_id": f"u{k:02d}",
            "kind": "edit",
            "shard": "images-00000",
            "target_path": f"{k}.png",
            "source_path": f"{k + 1}.png",
            "prompt": "redden it",
            "instructions": ["redden it", "make it red"],
            "chain": "1. a 2. b 3. (1,2),(300,400) 4. c 5. d",
            "image_id": sha(png(20 * k)),
            "source_id": sha(png(20 * (k + 1))),
            "pair_id": f"pair-{k}",
        }
        for k in edits
    ]
    return table(rows, MANIFEST)


def tars(storage: Storage) -> dict[str, bytes]:
    return {
        name: storage.read_bytes(name) for name in storage.list("training_shards/") if name.endswith(".tar")
    }


@pytest.mark.parametrize("url", ["file", "memory"])
def test_reading_back_gives_the_same_samples(tmp_path: Path, raw: Path, url: str) -> None:
    storage = Storage(f"file://{tmp_path / 's'}" if url == "file" else f"memory://{tmp_path.name}-{url}")
    rows = manifest_of(raw, [0, 1, 2, 3], edits=[5])
    index = write_training_shards(storage, "images-00000", rows, Readers(raw), TWO)
    check_schema(index, SHARD_INDEX, "index")
    assert index["sample_id"].to_list() == rows["sample_id"].to_list()
    assert len(tars(storage)) == 3, "five samples, two a tar"
    by_id = {row["sample_id"]: row for row in rows.iter_rows(named=True)}
    for row in reversed(read_index(storage, ["images-00000"]).to_dicts()):
        sample, wanted = read_sample(storage, row), by_id[row["sample_id"]]
        assert sample["image"] == (raw / wanted["target_path"]).read_bytes()
        for name in ("prompt", "instructions", "chain", "kind", "image_id", "pair_id", "source", "licence"):
            assert sample[name] == wanted[name]
        assert (sample.get("source_image") is not None) == (wanted["kind"] == "edit")
        if wanted["kind"] == "edit":
            assert sha(sample["source_image"]) == sample["source_id"] == wanted["source_id"]
    assert read_index(storage, ["other"]).height == 0


def test_any_reader_of_tars_finds_webdataset_groups(storage: Storage, raw: Path) -> None:
    write_training_shards(storage, "s", manifest_of(raw, [0], edits=[5]), Readers(raw))
    ((name, data),) = tars(storage).items()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert [one.name for one in members] == [
            "t00.json",
            "t00.png",
            "u05.json",
            "u05.png",
            "u05.source.png",
        ]
        assert {(one.mtime, one.uid, one.mode, one.uname) for one in members} == {(0, 0, 0o644, "")}
        file = tar.extractfile("t00.json")
        assert file is not None and json.loads(file.read())["prompt"] == "prompt 0 ü"
    assert sha(data)[:16] in name


def test_the_same_rows_give_the_same_bytes_and_nothing_is_read_twice(
    tmp_path: Path, storage: Storage, raw: Path
) -> None:
    rows, again = manifest_of(raw, [0, 1, 2, 3, 4]), Storage(f"file://{tmp_path / 'again'}")
    write_training_shards(storage, "s", rows, Readers(raw), TWO)
    write_training_shards(again, "s", rows.reverse(), Readers(raw), TWO)
    assert tars(storage) == tars(again)
    readers = Readers(raw)
    write_training_shards(storage, "s", rows, readers, TWO)
    assert readers.read == []


def test_pictures_are_read_side_by_side_and_the_bytes_are_the_same(
    tmp_path: Path, storage: Storage, raw: Path
) -> None:
    rows, again = manifest_of(raw, [*range(8)], edits=[8, 9]), Storage(f"file://{tmp_path / 'again'}")
    one = write_training_shards(storage, "s", rows, Readers(raw), TarConfig(samples_per_tar=6), io_threads=1)
    lock, now, most = threading.Lock(), [0], [0]

    class Slow(Readers):
        def read_bytes(self, path: str) -> bytes:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.03)
            with lock:
                now[0] -= 1
            return self["t2i"].read_bytes(path)

    slow = Slow(raw)
    readers: dict[str, ByteReader] = {"t2i": slow, "edit": slow}
    index = write_training_shards(again, "s", rows, readers, TarConfig(samples_per_tar=6), io_threads=4)
    assert most[0] == 4
    assert index.equals(one) and tars(storage) == tars(again)


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, storage: Storage, raw: Path) -> None:
    rows = manifest_of(raw, [0, 1, 2, 3, 4])
    readers = Readers(raw)

    class Dying:
        def read_bytes(self, path: str) -> bytes:
            if path == "3.png":
                raise KeyboardInterrupt
            return readers["t2i"].read_bytes(path)

    with pytest.raises(KeyboardInterrupt):
        write_training_shards(storage, "s", rows, {"t2i": Dying()}, TWO)
    assert len(tars(storage)) == 1
    folder = tmp_path / "storage" / "training_shards" / "s"
    (folder / ".tar-killed.partial").write_bytes(b"left by kill -9")
    (folder / "00009-feedfeedfeedfeed.tar").write_bytes(b"published, but its index never was")
    readers.read.clear()
    index = write_training_shards(storage, "s", rows, readers, TWO)
    assert sorted(readers.read) == ["2.png", "3.png", "4.png"]
    whole = Storage(f"file://{tmp_path / 'whole'}")
    assert index.equals(write_training_shards(whole, "s", rows, Readers(raw), TWO))
    assert tars(storage) == tars(whole)
    assert not list(folder.glob(".*"))


def test_new_rows_make_new_parts_and_changed_ones_rewrite_their_own(storage: Storage, raw: Path) -> None:
    write_training_shards(storage, "s", manifest_of(raw, [1, 3, 5, 7]), Readers(raw), TWO)
    before = tars(storage)
    readers = Readers(raw)
    write_training_shards(storage, "s", manifest_of(raw, [0, 1, 3, 5, 7]), readers, TWO)
    assert readers.read == ["0.png"]
    assert before.items() < tars(storage).items()
    changed = manifest_of(raw, [0, 1, 3, 5, 7]).with_columns(
        chain=pl.when(pl.col("sample_id") == "t05").then(pl.lit("b (1,1),(9,9)")).otherwise("chain")
    )
    readers.read.clear()
    index = write_training_shards(storage, "s", changed.with_columns(width=8, height=8), readers, TWO)
    assert readers.read == ["5.png", "7.png"], "sizes, which are in no tar, rewrite nothing"
    (row,) = index.filter(pl.col("sample_id") == "t05").to_dicts()
    assert read_sample(storage, row)["chain"] == "b (1,1),(9,9)"


def test_a_bad_picture_is_listed_with_its_reason_and_stops_nothing(storage: Storage, raw: Path) -> None:
    rows = manifest_of(raw, [0, 1, 2, 3])
    (raw / "1.png").unlink()
    (raw / "2.png").write_bytes(png(255))
    rows = rows.with_columns(sample_id=pl.col("sample_id").replace("t03", "../t03"))
    index = write_training_shards(storage, "s", rows, Readers(raw))
    found = dict(index.select("sample_id", "reason").iter_rows())
    assert found == {"t00": None, "t01": "vanished", "t02": "changed", "../t03": "bad_name"}
    (gone,) = index.filter(pl.col("sample_id") == "t01").to_dicts()
    with pytest.raises(ValueError, match="t01 is in no tar: vanished"):
        read_sample(storage, gone)
    with pytest.raises(ValueError, match="cannot name a folder"):
        write_training_shards(storage, "../s", rows, Readers(raw))
    assert ImageError("vanished", "x").reason == "vanished"


def test_a_removal_rewrites_only_the_parts_that_hold_it(storage: Storage, raw: Path) -> None:
    rows = manifest_of(raw, [0, 1, 2, 3], edits=[5, 8])
    write_training_shards(storage, "s", rows, Readers(raw), TWO)
    before, image = tars(storage), sha(png(20))
    for path in raw.iterdir():
        path.unlink()
    done = remove(storage, [image, sha(png(20 * 6))])  # the second one is only an edit's source
    assert done.samples == ["t01", "u05"]
    assert done.rewritten == ["training_shards/s/00000", "training_shards/s/00002"]
    after = tars(storage)
    assert len(before.keys() & after.keys()) == 1 and len(after) == 3
    assert not any(png(20) in data or png(120) in data for data in after.values())
    left = read_index(storage)
    assert left["sample_id"].to_list() == ["t00", "t02", "t03", "u08"]
    assert [read_sample(storage, row)["sample_id"] for row in left.to_dicts()] == left["sample_id"].to_list()
    assert remove(storage, [image]) == ([], [])
    readers = Readers(raw)
    rest = rows.filter(pl.col("sample_id").is_in(["t00", "t02", "t03", "u08"]))
    write_training_shards(storage, "s", rest, readers, TWO)
    assert readers.read == [], "after a removal nothing has to be written again"


def test_a_row_cut_out_of_the_index_alone_leaves_no_bytes_behind(storage: Storage, raw: Path) -> None:
    rows = manifest_of(raw, [0, 1, 2])
    write_training_shards(storage, "s", rows, Readers(raw))
    (name,) = [one.removesuffix(".parquet") for one in storage.list("training_shards/") if "parquet" in one]
    for cut in ("t00", "t02"):
        storage.write_table(name, storage.read_table(name).filter(pl.col("sample_id") != cut))
        assert remove(storage, []).rewritten == [name]
        assert len(tars(storage)) == 1 and remove(storage, []).rewritten == []
    assert not any(png(0) in data or png(40) in data for data in tars(storage).values())
    assert read_index(storage)["sample_id"].to_list() == ["t01"]


def test_removing_all_leaves_no_tar(storage: Storage, raw: Path) -> None:
    write_training_shards(storage, "s", manifest_of(raw, [0]), Readers(raw))
    assert remove(storage, ["t00"]).samples == ["t00"]
    assert tars(storage) == {} and read_index(storage).height == 0
    with pytest.raises(ValueError, match="samples_per_tar must be at least 1"):
        TarConfig(samples_per_tar=0)


def in_tar(raw: Path, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with their pictures as members of a tar beside the raw files."""
    with tarfile.open(raw / "given.tar", "w") as tar:
        for name in rows["target_path"]:
            tar.add(raw / name, name)
    with tarfile.open(raw / "given.tar") as tar:
        paths = [
            Member("given.tar", one.name, one.offset_data, one.size, sha((raw / one.name).read_bytes())).path
            for one in tar
        ]
    return rows.with_columns(target_path=pl.Series(paths))


def test_pictures_in_tars_given_as_input_are_not_written_again_unless_wanted(
    storage: Storage, raw: Path
) -> None:
    plain = manifest_of(raw, [0, 1, 2])
    rows, readers = in_tar(raw, plain), Readers(raw)
    index = write_training_shards(storage, "s", rows, readers, TWO)
    assert index.select("tar", "error").null_count().row(0) == (3, 3) and not readers.read
    assert not tars(storage)
    assert write_training_shards(storage, "s", rows, readers, TWO).equals(index)
    with pytest.raises(ValueError, match=r"t00 is in no tar: .*given as input; GOT_REPACK_TARS=1"):
        read_sample(storage, index.row(0, named=True))

    repack = TarConfig(samples_per_tar=2, repack=True)
    packed = write_training_shards(storage, "s", rows, readers, repack)
    assert packed["tar"].null_count() == 0 and len(tars(storage)) == 2
    for row in packed.iter_rows(named=True):
        assert sha(read_sample(storage, row)["image"]) == row["image_id"]
    assert write_training_shards(storage, "s", rows, readers, TWO).equals(index) and not tars(storage)


def test_plain_files_and_members_of_tars_share_a_part_and_a_takedown(storage: Storage, raw: Path) -> None:
    rows = pl.concat([manifest_of(raw, [0, 1]), in_tar(raw, manifest_of(raw, [2, 3]))])
    index = write_training_shards(storage, "s", rows, Readers(raw))
    assert index["tar"].is_null().to_list() == [False, False, True, True]
    assert remove(storage, [sha(png(0)), sha(png(40))]).samples == ["t00", "t02"]
    left = read_index(storage)
    assert left["sample_id"].to_list() == ["t01", "t03"] and left["tar"].is_null().to_list() == [False, True]
    assert read_sample(storage, left.row(0, named=True))["image"] == png(20)
