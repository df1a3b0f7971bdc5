"""What GOT_RAW may name, and parquet files and lists of inputs from listing to table."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.ingest import ImageReader, ingest_images
from got_core.corpus.inputs import inputs_of
from got_core.corpus.schemas import IMAGE_LIST, RAW_IMAGES, check_schema
from got_core.corpus.shards import assign_image_shards, read_shard
from got_core.storage import Storage

from .pictures import png

CONFIG = IngestConfig(image_shard_size=4, workers=2, source="house", licence="unknown")


def ingest(storage: Storage, raw: Path | str, config: IngestConfig = CONFIG) -> pl.DataFrame:
    shards = assign_image_shards(storage, str(raw), config)
    frame = pl.concat([ingest_images(storage, str(raw), shard, config) for shard in shards])
    return check_schema(frame, RAW_IMAGES, "raw_images")


@pytest.mark.parametrize(
    ("url", "base", "pattern"),
    [
        ("/data/pictures", "/data/pictures", None),
        ("s3://bucket/lahr", "s3://bucket/lahr", None),
        ("/data/urls.csv", "/data", "urls.csv"),
        ("/data/lahr/*.tar", "/data/lahr", "*.tar"),
        ("s3://bucket/a*/b/[0-9]*.tar.gz", "s3://bucket", "a*/b/[0-9]*.tar.gz"),
        ("s3://bucket/part.PARQUET", "s3://bucket", "part.PARQUET"),
    ],
)
def test_the_kind_shows_in_the_name(url: str, base: str, pattern: str | None) -> None:
    [one] = inputs_of(url)
    assert (one.base, one.pattern, one.name) == (base, pattern, "")


def test_a_folder_is_a_folder_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "old.tar").mkdir()
    assert inputs_of(tmp_path / "old.tar")[0].pattern is None


def test_several_inputs_each_with_source_and_licence(tmp_path: Path, storage: Storage) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.png").write_bytes(png(seed))
    pq.write_table(pa.table({"image": [png(3)], "licence": ["CC-BY-4.0"]}), tmp_path / "p.parquet")
    (tmp_path / "raw.toml").write_text(
        '[lahr]\nraw = "one"\nlicence = "CC0-1.0"\n'
        f'[journeydb]\nraw = "{tmp_path / "two"}"\n'
        '[flux]\nraw = "*.parquet"\nlicence = "CC0-1.0"\nsource = "flux-dev"\n'
    )
    frame = ingest(storage, tmp_path / "raw.toml")
    found = {row["source"]: (row["licence"], row["path"]) for row in frame.iter_rows(named=True)}
    stored = hashlib.sha256(png(3)).hexdigest()
    assert found == {
        "lahr": ("CC0-1.0", "lahr://same.png"),
        "journeydb": ("unknown", "journeydb://same.png"),
        "flux-dev": ("CC-BY-4.0", f"store://{stored[:2]}/{stored}.png"),
    }
    reader = ImageReader(tmp_path / "raw.toml", CONFIG, store_url=storage.url)
    assert reader.read_bytes("journeydb://same.png") == png(2)
    assert reader.read_bytes(found["flux-dev"][1]) == png(3)
    for path in ("same.png", "gone://same.png", "lahr://../two/same.png", "store://../shards/x.parquet"):
        with pytest.raises(ImageError, match="outside_root"):
            reader.read_bytes(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"raw\.toml is empty"),
        ("a = [", r"raw\.toml is not TOML"),
        ("[store]\nraw='x'", r"entry \[store\]"),
        ("[a]\nlicence='x'", r"entry \[a\] lacks raw"),
        ("[a]\nraw='x'\nlicense='x'", r"entry \[a\] takes the texts events, inventory, licence, raw, source"),
    ],
)
def test_an_unusable_list_is_one_clear_error(
    tmp_path: Path, storage: Storage, text: str, message: str
) -> None:
    (tmp_path / "raw.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        assign_image_shards(storage, str(tmp_path / "raw.toml"), CONFIG)


def test_a_missing_archive_or_list_names_the_setting(tmp_path: Path, storage: Storage) -> None:
    for name in ("x.tar", "*.parquet", "raw.toml"):
        with pytest.raises(FileNotFoundError, match="GOT_RAW"):
            assign_image_shards(storage, str(tmp_path / name), CONFIG)


def write_images(path: Path, struct: bool) -> list[bytes]:
    data = [png(seed) for seed in range(9)]
    data[5] = data[0]
    cells: list = [{"bytes": one, "path": f"../../{index}.png"} for index, one in enumerate(data)]
    cells[7] = {"bytes": None, "path": "/etc/passwd"}
    column = cells if struct else [cell["bytes"] for cell in cells]
    table = pa.table({"image": column, "license": ["MIT"] * 8 + [None], "n": range(9)})
    pq.write_table(table, path, row_group_size=3)
    return data


@pytest.mark.parametrize("struct", [True, False], ids=["struct", "binary"])
def test_parquet_with_pictures(tmp_path: Path, storage: Storage, struct: bool) -> None:
    data = write_images(tmp_path / "p.parquet", struct)
    shards = assign_image_shards(storage, str(tmp_path / "p.parquet"), CONFIG)
    assert [read_shard(storage, name)["count"].to_list() for name in shards] == [[3], [3], [3]]
    frame = ingest(storage, tmp_path / "p.parquet")
    origins = {row["paths"][0]: row for row in frame.iter_rows(named=True)}
    assert sorted(origins) == [f"p.parquet#{index}" for index in range(9)]
    assert origins["p.parquet#8"]["licence"] == "unknown" and origins["p.parquet#1"]["licence"] == "MIT"
    bad = frame.filter(pl.col("error").is_not_null())
    assert bad.select("path", "reason").rows() == [("p.parquet#7", "incomplete_row")]
    reader = ImageReader(tmp_path / "p.parquet", CONFIG, store_url=storage.url)
    for index in (0, 4, 8):
        assert reader.read_bytes(origins[f"p.parquet#{index}"]["path"]) == data[index]
    assert len(storage.list("stored_images/")) == 7  # nine rows: one without bytes, one a repetition


def test_a_row_group_larger_than_a_shard_is_cut(tmp_path: Path, storage: Storage) -> None:
    pq.write_table(pa.table({"image": [png(seed) for seed in range(10)]}), tmp_path / "p.parquet")
    frame = ingest(storage, tmp_path / "p.parquet")
    assert sorted(frame["paths"].explode()) == [f"p.parquet#{index}" for index in range(10)]
    assert frame["image_id"].n_unique() == 10


def test_a_parquet_bomb_and_a_damaged_file_are_refused(tmp_path: Path, storage: Storage) -> None:
    zeros = pa.table({"image": [bytes(65 * 1024**2)]})
    pq.write_table(zeros, tmp_path / "bomb.parquet", compression="zstd", use_dictionary=False)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "bomb.parquet").read_bytes()[:-10])
    frame = ingest(storage, tmp_path / "*.parquet")
    assert dict(frame.select("path", "reason").iter_rows()) == {
        "bomb.parquet": "decompression_bomb",
        "cut.parquet": "bad_archive",
    }


def test_a_table_without_pictures_or_urls_says_what_it_needs(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "t.csv").write_text("name,caption\na,b\n")
    pl.DataFrame({"name": ["a"]}).write_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(ValueError, match=rf"{name} has neither a column url .* it has name"):
            assign_image_shards(storage, str(tmp_path / name), CONFIG)


def test_copies_with_several_licences_keep_them_all(tmp_path: Path, storage: Storage) -> None:
    table = pa.table({"image": [png(1)] * 3, "licence": ["CC0-1.0", "CC-BY-4.0", "CC0-1.0"]})
    pq.write_table(table, tmp_path / "p.parquet")
    [row] = ingest(storage, tmp_path / "p.parquet").iter_rows(named=True)
    assert (row["licence"], len(row["paths"])) == ("CC0-1.0; CC-BY-4.0", 3)


def test_lists_from_before_other_inputs_are_still_read(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.png").write_bytes(png(1))
    [shard] = assign_image_shards(storage, str(tmp_path / "raw"), CONFIG)
    old = read_shard(storage, shard).select("path", "bytes", "modified", "problem")
    storage.write_table(f"shards/{shard}", old)
    assert read_shard(storage, shard).columns == list(IMAGE_LIST)
    assert assign_image_shards(storage, str(tmp_path / "raw"), CONFIG) == [shard]
    assert ingest_images(storage, str(tmp_path / "raw"), shard, CONFIG)["error"].to_list() == [None]


def test_a_licence_that_is_no_text_keeps_its_picture_out(tmp_path: Path, storage: Storage) -> None:
    rows = [
        {"image": png(1), "licence": {"name": "MIT", "bytes": png(4)}},
        {"image": png(2), "licence": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "records.parquet")
    pq.write_table(pa.table({"image": [png(3)], "licence": [["MIT", "CC0-1.0"]]}), tmp_path / "lists.parquet")
    frame = ingest(storage, tmp_path / "*.parquet")
    found = {row["paths"][0]: (row["licence"], row["error"]) for row in frame.iter_rows(named=True)}
    assert found == {
        "lists.parquet#0": ("MIT; CC0-1.0", None),
        "records.parquet#0": ("unknown", "bad_metadata: the row's licence is no text but dict"),
        "records.parquet#1": ("unknown", None),
    }
