"""What is an input at all: the same answer for folder, prefix and tar; nothing else counts as rejected."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections import Counter
from pathlib import Path

import fsspec
import polars as pl
import pytest

from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ingest_images
from got_core.corpus.inputs import Input
from got_core.corpus.listing import list_input
from got_core.corpus.schemas import IMAGE_LIST, frame_of
from got_core.corpus.shards import assign_image_shards, passed_over, read_shard
from got_core.corpus.sieve import Sieve, counts_text
from got_core.storage import Storage

from .pictures import png

CONFIG = IngestConfig(workers=2)
PICTURES = ("10_cat/1.png", "10_cat/2.PNG", "train/00/3.jpg")
BESIDE = {
    "10_cat/1.txt": ".txt",
    "10_cat/1.caption": ".caption",
    "10_cat/1.npz": ".npz",
    "10_cat/2.svg": ".svg",
    "10_cat/meow.OGG": ".ogg",
    "10_cat/._1.png": ".*",
    "__MACOSX/10_cat/._1.png": "__MACOSX",
    "__MACOSX/10_cat/1.png": None,  # the folder counts once
    "train/.ipynb_checkpoints/3-checkpoint.jpg": ".*",
    ".DS_Store": ".*",
    "10_cat/thumbs.db": "Thumbs.db",
    "Desktop.ini": "desktop.ini",
    "README": "no ending",
    "LICENSE.md": ".md",
    "00000_stats.yaml": ".yaml",
    "00000.parquet": ".parquet",
    "1.png.part": ".part",
}


def files() -> dict[str, bytes]:
    pictures = {path: png(seed) for seed, path in enumerate(PICTURES)}
    return {**pictures, **dict.fromkeys(BESIDE, b"anything"), "empty.jpg": b""}


def tar_of(contents: dict[str, bytes], prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def ingest(storage: Storage, raw: str, config: IngestConfig = CONFIG) -> tuple[pl.DataFrame, Counter[str]]:
    """The table of all shards, and what was passed over in listing and unpacking together."""
    seen: Counter[str] = Counter()
    shards = assign_image_shards(storage, raw, config)
    frames = [ingest_images(storage, raw, shard, config, passed_over=seen) for shard in shards]
    return pl.concat(frames), seen + Counter(passed_over(storage))


@pytest.mark.parametrize("kind", ["folder", "prefix", "tar", "tar of ."])
def test_every_kind_of_input_has_the_same_answer(tmp_path: Path, storage: Storage, kind: str) -> None:
    raw = str(tmp_path / "raw")
    for name, data in files().items():
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(data)
    if kind == "prefix":
        raw = f"memory://{uuid.uuid4().hex}/raw"
        fsspec.filesystem("memory").put(f"{tmp_path / 'raw'}/", raw, recursive=True)
    elif kind != "folder":
        raw = str(tmp_path / "a.tar")
        (tmp_path / "a.tar").write_bytes(tar_of(files(), "./" if kind == "tar of ." else ""))
    frame, seen = ingest(storage, raw)
    found = {
        row["paths"][0].rpartition("//")[2].removeprefix("./"): row["reason"]
        for row in frame.rows(named=True)
    }
    assert found == {**dict.fromkeys(PICTURES), "empty.jpg": "empty_file"}
    assert seen == Counter(kind for kind in BESIDE.values() if kind)


def test_shards_are_made_of_inputs_only(tmp_path: Path) -> None:
    storage = Storage(f"memory://{uuid.uuid4().hex}")
    for index in range(6):
        (tmp_path / f"{index}.txt").write_bytes(b"words")
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(png(index))
    names = assign_image_shards(storage, str(tmp_path), IngestConfig(image_shard_size=2))
    assert [read_shard(storage, name)["path"].to_list() for name in names] == [["0.png", "1.png"], ["2.png"]]
    (tmp_path / "7.txt").write_bytes(b"words")
    assert assign_image_shards(storage, str(tmp_path), CONFIG) == names
    assert passed_over(storage) == {".txt": 7}


def test_older_lists_with_what_is_no_input_lose_it_when_ingested(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "1.png").write_bytes(png(1))
    [shard] = assign_image_shards(storage, str(tmp_path), CONFIG)
    listed = read_shard(storage, shard)
    text = frame_of([{**listed.row(0, named=True), "path": "1.txt"}], IMAGE_LIST)
    storage.write_table(f"shards/{shard}", pl.concat([listed, text]))
    seen: Counter[str] = Counter()
    frame = ingest_images(storage, str(tmp_path), shard, CONFIG, passed_over=seen)
    assert frame["path"].to_list() == ["1.png"] and seen == {".txt": 1}
    storage.write_table(f"shards/{shard}", text)
    assert ingest_images(storage, str(tmp_path), shard, CONFIG).is_empty()


def test_the_patterns_are_a_setting(tmp_path: Path) -> None:
    for name in ("photo", "a.raw", "b.png"):
        (tmp_path / name).write_bytes(png(1))
    listing = list_input(Input(base=str(tmp_path)), IngestConfig(pictures=("photo", "*.RAW")))
    assert listing.found["path"].to_list() == ["a.raw", "photo"] and listing.passed_over == {".png": 1}
    assert list_input(Input(base=str(tmp_path)), IngestConfig(pictures=("*",))).found.height == 3
    for wrong in ((), "*.png", ("",)):
        with pytest.raises(ValueError, match=r"IngestConfig\.pictures"):
            IngestConfig(pictures=wrong)  # type: ignore[arg-type]


def test_formats_that_are_not_read_are_inputs_all_the_same() -> None:
    sieve = Sieve(CONFIG)
    assert all(sieve.accepts(f"holiday/1.{ending}") for ending in ("HEIC", "avif", "gif", "TIFF", "jfif"))
    assert not sieve.counts


def test_markers_of_empty_folders_are_passed_over() -> None:
    sieve = Sieve(CONFIG)
    assert not any(map(sieve.accepts, ("set/", "photos.jpg/", "old_$folder$")))
    assert sieve.counts == {"folder marker": 3}


def test_a_licence_beside_hidden_copies_is_still_found(tmp_path: Path, storage: Storage) -> None:
    order = ("._1.png", "1.png", "._1.json", "1.json", "2.png", "2.json")
    contents = {name: b"\0\5\x16\7" for name in order if name.startswith(".")}
    facts = {"1.json": b'{"license": "CC0-1.0"}', "2.json": b'["cat", "sofa"]'}
    contents = {name: contents.get(name) or facts.get(name) or png(int(name[0])) for name in order}
    (tmp_path / "a.tar").write_bytes(tar_of(contents))
    frame, _ = ingest(storage, str(tmp_path / "a.tar"))
    found = {row["paths"][0]: (row["licence"], row["reason"]) for row in frame.rows(named=True)}
    assert found == {"a.tar//1.png": ("CC0-1.0", None), "a.tar//2.png": (None, None)}


def test_counts_in_words_stay_short_and_say_how_archives_are_read() -> None:
    assert counts_text({".ogg": 9, ".txt": 2}) == "11 files (9 .ogg, 2 .txt)"
    assert counts_text({".tar": 21, ".json": 21}).endswith("; GOT_RAW='.../*.tar' reads those")
    sieve = Sieve(CONFIG)
    assert not any(sieve.accepts(f"x.{index}") for index in range(5000))
    assert len(sieve.counts) <= 201 and sum(sieve.counts.values()) == 5000
