"""Ingestion of a folder: identity, duplicates, and a quarantine with one reason for each kind of bad file."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageEnhance

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import REASONS, ImageError
from got_core.corpus.ingest import ImageReader, edits_root, ingest_edit_pairs, ingest_images
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, check_schema, polars_schema
from got_core.corpus.shards import assign_edit_shards, assign_image_shards
from got_core.frame_hash import content_hash
from got_core.storage import Storage

CONFIG = IngestConfig(max_bytes=200_000)


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Coloured blobs, unlike for unlike seeds, as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder of six good files, two of them of equal bytes."""
    folder = tmp_path / "raw"
    (folder / "trip to Köln #1").mkdir(parents=True)
    for seed in range(4):
        (folder / f"{seed}.png").write_bytes(encode(picture(seed)))
    (folder / "trip to Köln #1" / "a%20b?.jpg").write_bytes(encode(picture(10), "JPEG"))
    (folder / "trip to Köln #1" / "copy of 1.png").write_bytes((folder / "1.png").read_bytes())
    return folder


def add_bad_files(folder: Path) -> dict[str, str]:
    """One file for each reason that a folder can show to any user: path -> reason."""
    noise = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    damaged = bytearray(noise)
    damaged[len(damaged) // 2] ^= 0xFF
    contents = {
        "empty_file": b"",
        "zero_filled": bytes(1000),
        "not_an_image": b"<html>404 not found</html>",
        "lfs_pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "unsupported_format": encode(picture(0), "GIF"),
        "truncated": noise[: len(noise) // 2],
        "corrupt": bytes(damaged),
        "decompression_bomb": encode(Image.new("1", (20000, 20000))),
        "too_large": noise + bytes(CONFIG.max_bytes),
        "too_small": encode(picture(0, (64, 8))),
        "extreme_aspect": encode(picture(0, (400, 40))),
    }
    for reason, data in contents.items():
        (folder / f"bad {reason}.png").write_bytes(data)
    (folder.parent / "secret.png").write_bytes(noise)
    (folder.parent / "elsewhere").mkdir()
    (folder / "bad outside_root.png").symlink_to(folder.parent / "secret.png")
    (folder / "bad broken_link.png").symlink_to("nothing.png")
    (folder / "bad linked_folder").symlink_to(folder.parent / "elsewhere")
    os.mkfifo(folder / "bad not_a_file.png")
    (folder / "bad vanished.png").write_bytes(noise)
    (folder / "bad changed.png").write_bytes(noise)
    Path(os.fsdecode(os.fsencode(folder) + b"/bad_name \xff.png")).write_bytes(noise)
    names = [*contents, "outside_root", "broken_link", "not_a_file", "vanished", "changed"]
    paths = {f"bad {reason}.png": reason for reason in names}
    return paths | {"bad linked_folder": "linked_folder", "bad_name \\xff.png": "bad_name"}


def ingest(storage: Storage, raw: Path | str, config: IngestConfig = CONFIG) -> pl.DataFrame:
    shards = assign_image_shards(storage, str(raw), config)
    return pl.concat([ingest_images(storage, str(raw), shard, config) for shard in shards])


def good(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("error").is_null())


def test_every_kind_of_bad_file_has_its_own_reason_and_nothing_else_is_touched(
    raw: Path, storage: Storage
) -> None:
    alone = ingest(Storage(f"memory://{uuid.uuid4().hex}"), raw)
    bad = add_bad_files(raw)
    shards = assign_image_shards(storage, str(raw), CONFIG)
    (raw / "bad vanished.png").unlink()
    (raw / "bad changed.png").write_bytes(encode(picture(77)))
    [shard] = shards
    frame = check_schema(ingest_images(storage, str(raw), shard, CONFIG), RAW_IMAGES, "raw_images")
    quarantined = frame.filter(pl.col("error").is_not_null())
    assert dict(quarantined.select("path", "reason").iter_rows()) == bad
    assert len(set(bad.values())) == 18
    assert set(bad.values()) <= REASONS.keys()
    assert all(row["error"].startswith(row["reason"] + ": ") for row in quarantined.iter_rows(named=True))
    assert content_hash(good(frame)) == content_hash(alone)


def test_files_and_folders_without_permission() -> None:
    # Root may read everything, so it becomes another user first.
    prelude = "import os; os.seteuid(65534)" if os.geteuid() == 0 else ""
    code = f"""
from got_core.corpus.ingest import ingest_images
from got_core.corpus.shards import assign_image_shards
from got_core.corpus.config import IngestConfig
from got_core.storage import Storage
from PIL import Image
from got_core.corpus.duplicates import fingerprint
import io, tempfile, pathlib
def png():
    file = io.BytesIO(); Image.new("RGB", (40, 40)).save(file, "PNG"); return file.getvalue()
fingerprint(Image.open(io.BytesIO(png())))  # loads what could not be loaded as that user
{prelude}
root = pathlib.Path(tempfile.mkdtemp())
Image.new("RGB", (40, 40)).save(root / "locked.png")
Image.new("RGB", (50, 40)).save(root / "open.png")
(root / "folder").mkdir()
(root / "locked.png").chmod(0)
(root / "folder").chmod(0)
storage = Storage("memory://permissions")
[shard] = assign_image_shards(storage, str(root), IngestConfig())
frame = ingest_images(storage, str(root), shard, IngestConfig())
print(dict(frame.select("path", "reason").iter_rows()))
(root / "folder").chmod(0o700)
import shutil; shutil.rmtree(root)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = {"folder": "unreadable_folder", "locked.png": "permission_denied", "open.png": None}
    assert done.stdout.strip() == str(expected), done.stderr


def test_identity_is_the_hash_of_the_bytes_and_exact_duplicates_fold(raw: Path, storage: Storage) -> None:
    frame = ingest(storage, raw)
    by_path = {row["path"]: row for row in frame.iter_rows(named=True)}
    assert by_path["1.png"]["paths"] == ["1.png", "trip to Köln #1/copy of 1.png"]
    assert by_path["1.png"]["image_id"] == hashlib.sha256((raw / "1.png").read_bytes()).hexdigest()
    assert frame["paths"].list.len().sum() == 6
    assert frame.height == 5
    row = by_path["trip to Köln #1/a%20b?.jpg"]
    assert (row["format"], row["width"], row["height"], row["error"]) == ("JPEG", 96, 64, None)
    assert row["bytes"] == (raw / row["path"]).stat().st_size


def test_bad_files_of_equal_bytes_each_keep_a_row(raw: Path, storage: Storage) -> None:
    for name in "xyz":
        (raw / f"{name}.png").write_bytes(b"")
    frame = ingest(storage, raw).filter(reason="empty_file")
    assert frame["path"].to_list() == ["x.png", "y.png", "z.png"]


def test_near_duplicates_are_marked_and_the_largest_leads(raw: Path, storage: Storage) -> None:
    big = picture(1, (192, 128))
    big.save(raw / "z big.png")
    picture(1).save(raw / "recompressed.jpg", quality=70)
    ImageEnhance.Brightness(picture(1)).enhance(1.03).save(raw / "brighter.png")
    red, green, blue = picture(1).split()
    Image.merge("RGB", (blue, green, red)).save(raw / "recoloured.png")
    frame = ingest(storage, raw)
    [leader] = frame.filter(path="z big.png")["image_id"]
    marked = frame.filter(pl.col("near_duplicate_of").is_not_null())
    assert set(marked["path"]) == {"1.png", "recompressed.jpg", "brighter.png"}
    assert set(marked["near_duplicate_of"]) == {leader}
    assert frame.filter(pl.col("phash").str.len_chars() != 16).is_empty()
    off = IngestConfig(near_duplicate_distance=-1)
    assert ingest(storage, raw, off)["near_duplicate_of"].null_count() == frame.height


def test_the_same_folder_gives_the_same_table_with_any_number_of_workers(raw: Path, storage: Storage) -> None:
    add_bad_files(raw)
    one = ingest(storage, raw, IngestConfig(max_bytes=200_000, workers=1))
    assert content_hash(one) == content_hash(ingest(storage, raw, IngestConfig(max_bytes=200_000, workers=4)))


def test_progress_is_reported_for_every_file(raw: Path, storage: Storage) -> None:
    [shard] = assign_image_shards(storage, str(raw), CONFIG)
    seen: list[tuple[int, int]] = []
    ingest_images(storage, str(raw), shard, CONFIG, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(1, 7)]


def test_an_object_store_gives_the_same_table_as_a_folder(raw: Path, storage: Storage) -> None:
    for name in ("zero.png", "cut.png"):
        (raw / name).write_bytes(b"" if name == "zero.png" else encode(picture(3))[:200])
    remote = f"memory://{uuid.uuid4().hex}/raw"
    fsspec.filesystem("memory").put(f"{raw}/", remote, recursive=True)
    local, away = ingest(storage, raw), ingest(Storage(f"memory://{uuid.uuid4().hex}"), remote)
    assert content_hash(away) == content_hash(local)
    reader = ImageReader(remote)
    assert reader("0.png").size == (96, 64)
    with pytest.raises(ImageError, match=r"vanished: none\.png"):
        reader("none.png")
    with pytest.raises(ImageError, match="outside_root"):
        reader("../other/0.png")


def test_the_reader_opens_below_its_root_only(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_bad_files(raw)
    (raw / "inner link.png").symlink_to("0.png")
    monkeypatch.chdir(raw.parent)
    reader = ImageReader("raw")
    monkeypatch.chdir("/")
    assert reader.open("0.png").mode == "RGB"
    assert reader.open("inner link.png").tobytes() == reader.open("0.png").tobytes()
    for path in (
        "../secret.png",
        str(raw.parent / "secret.png"),
        "",
        "a/../../secret.png",
        "bad outside_root.png",
    ):
        with pytest.raises(ImageError, match="outside_root"):
            reader.open(path)
    with pytest.raises(ImageError, match="outside_root: bad linked_folder"):
        reader.open("bad linked_folder")
    with pytest.raises(ImageError, match="not_a_file: trip to Köln #1: a folder"):
        reader.open("trip to Köln #1")


def test_a_root_behind_a_link_is_a_root(raw: Path, storage: Storage) -> None:
    link = raw.parent / "link"
    link.symlink_to(raw)
    assert good(ingest(storage, link)).height == 5


# Edit pairs


@pytest.fixture
def edits(tmp_path: Path) -> Path:
    folder = tmp_path / "edits"
    folder.mkdir()
    for seed in range(4):
        picture(seed).save(folder / f"{seed}.png")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "cut.png").write_bytes((folder / "3.png").read_bytes()[:300])
    picture(9, (64, 64)).save(folder / "square.png")
    return folder


def ingest_pairs(storage: Storage, edits: Path, table: str, config: IngestConfig = CONFIG) -> pl.DataFrame:
    (edits / "pairs.csv").write_text(table)
    url = str(edits / "pairs.csv")
    shards = assign_edit_shards(storage, url, config)
    frame = pl.concat([ingest_edit_pairs(storage, url, shard, config) for shard in shards])
    return check_schema(frame, EDIT_PAIRS, "edit_pairs")


def test_edit_pairs_have_ids_and_each_row_one_fate(edits: Path, storage: Storage) -> None:
    table = (
        "source,target,instruction,licence\n"
        "0.png,1.png,make it blue,CC0\n"
        "copy.png,1.png,make it blue,CC0\n"  # the same images: folded
        "0.png,1.png,make it blue,CC0\n"  # the same row: folded
        "0.png,2.png,make it green,\n"
        "0.png,copy.png,change nothing,\n"
        "0.png,cut.png,cut it,\n"
        "gone.png,1.png,find it,\n"
        "0.png,square.png,crop it,\n"
        "0.png,,forget it,\n"
        "0.png,1.png,  ,\n"
        "../raw/0.png,1.png,steal it,\n"
    )
    frame = ingest_pairs(storage, edits, table, IngestConfig(licence="house", source="team"))
    assert frame["rows"].sum() == 11
    fine = good(frame)
    assert fine.select("instruction", "rows", "licence", "source", "width").rows() == [
        ("make it blue", 3, "CC0", "team", 96),
        ("make it green", 1, "house", "team", 96),
    ]
    sizes = frame.select("instruction", "width", "height", "target_width", "target_height").rows()
    assert ("make it blue", 96, 64, 96, 64) in sizes
    assert ("crop it", 96, 64, 64, 64) in sizes
    assert ("cut it", 96, 64, None, None) in sizes
    source, target = (hashlib.sha256((edits / name).read_bytes()).hexdigest() for name in ("0.png", "1.png"))
    expected = hashlib.sha256(f"{source}|{target}|make it blue".encode()).hexdigest()
    assert fine["pair_id"][0] == expected
    bad = frame.filter(pl.col("error").is_not_null())
    reasons = {row["instruction"]: row["reason"] for row in bad.iter_rows(named=True)}
    assert reasons == {
        "change nothing": "identical_images",
        "cut it": "truncated",
        "find it": "vanished",
        "crop it": "unlike_aspect",
        "forget it": "incomplete_row",
        None: "incomplete_row",
        "steal it": "outside_root",
    }
    [error] = bad.filter(instruction="cut it")["error"]
    assert error.startswith("truncated: row 6: target cut.png: PNG ends after 300 bytes")
    assert frame["pair_id"].n_unique() == frame.height


def test_the_folder_of_the_pair_table() -> None:
    assert edits_root("/data/edits/pairs.csv") == "/data/edits"
    assert edits_root("s3://bucket/edits/pairs.parquet") == "s3://bucket/edits"


def test_columns_are_described_and_checked() -> None:
    for columns in (RAW_IMAGES, EDIT_PAIRS):
        assert all(description for _, description in columns.values())
    wrong = pl.DataFrame(schema=polars_schema(RAW_IMAGES)).drop("phash")
    with pytest.raises(ValueError, match=r"table raw_images .*'phash'"):
        check_schema(wrong, RAW_IMAGES, "raw_images")
