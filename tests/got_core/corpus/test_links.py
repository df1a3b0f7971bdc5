"""Links: followed inside the root and inside a Hugging Face cache, refused with what to do elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.ingest import ImageReader, ingest_images
from got_core.corpus.shards import assign_image_shards, passed_over
from got_core.storage import Storage

from .pictures import png

CONFIG = IngestConfig(workers=2)
REVISION = "2439f60ef33a0d46d85da5001d52aeda5b00ce9f"
NAMES = ("1.png", "train/2.png", "train/deep/3.png")


def fates(storage: Storage, raw: Path) -> dict[str, str | None]:
    shards = assign_image_shards(storage, str(raw), CONFIG)
    frames = [ingest_images(storage, str(raw), shard, CONFIG) for shard in shards]
    return {
        path: row["reason"]
        for frame in frames
        for row in frame.iter_rows(named=True)
        for path in row["paths"]
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A data set as `huggingface_hub` lays it out: one snapshot of links into blobs."""
    folder = tmp_path / "hub" / "datasets--org--name"
    for name in ("blobs", "refs", f"snapshots/{REVISION}/train/deep"):
        (folder / name).mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    snapshot = folder / "snapshots" / REVISION
    for seed, name in enumerate(NAMES):
        link(snapshot / name, folder / "blobs" / f"{seed:064x}", png(seed))
    link(snapshot / "README.md", folder / "blobs" / "ab12", b"words")
    table = folder / "blobs" / f"{9:064x}"
    pq.write_table(pa.table({"image": [png(5)]}), table)
    os.symlink(os.path.relpath(table, snapshot / "train"), snapshot / "train" / "0.parquet")
    return folder


def link(path: Path, blob: Path, data: bytes) -> None:
    blob.write_bytes(data)
    os.symlink(os.path.relpath(blob, path.parent), path)


@pytest.mark.parametrize(
    ("root", "paths"),
    [
        (f"snapshots/{REVISION}", NAMES),
        (f"snapshots/{REVISION}/train", ("2.png", "deep/3.png")),
        ("snapshots", tuple(f"{REVISION}/{name}" for name in NAMES)),
        ("", tuple(f"snapshots/{REVISION}/{name}" for name in NAMES)),
        ("..", tuple(f"datasets--org--name/snapshots/{REVISION}/{name}" for name in NAMES)),
        (f"snapshots/{REVISION}/train/*.parquet", ("0.parquet#0",)),
    ],
)
def test_a_snapshot_is_read_through_its_links(
    repository: Path, storage: Storage, root: str, paths: tuple[str, ...]
) -> None:
    assert fates(storage, repository / root) == dict.fromkeys(paths)
    if root in ("", ".."):
        kinds = passed_over(storage)
        assert kinds["blobs of a Hugging Face cache"] == kinds["refs of a Hugging Face cache"] == 1


def test_taking_every_name_does_not_take_the_blobs(repository: Path, storage: Storage) -> None:
    config = IngestConfig(pictures=("*",))
    [shard] = assign_image_shards(storage, str(repository), config)
    listed = storage.read_table(f"shards/{shard}")["path"]
    assert len(listed) == 5 and all(path.startswith("snapshots/") for path in listed)


def test_links_in_a_snapshot_that_lead_elsewhere_are_refused(repository: Path, storage: Storage) -> None:
    snapshot = repository / "snapshots" / REVISION
    (repository.parent / "secret.png").write_bytes(png(7))
    (repository / "secret.png").write_bytes(png(8))
    other = repository.parent / "datasets--org--other" / "blobs"
    other.mkdir(parents=True)
    link(snapshot / "other.png", other / "ab", png(6))
    (snapshot / "up.png").symlink_to("../../../secret.png")
    (snapshot / "near.png").symlink_to("../../secret.png")
    (snapshot / "passwd.png").symlink_to("/etc/passwd")
    (repository / "blobs" / "chained").symlink_to("/etc/passwd")
    (snapshot / "chained.png").symlink_to("../../blobs/chained")
    (snapshot / "purged.png").symlink_to("../../blobs/purged")
    out = ("other.png", "up.png", "near.png", "passwd.png", "chained.png")
    bad = {path: reason for path, reason in fates(storage, snapshot).items() if reason}
    assert bad == {**dict.fromkeys(out, "outside_root"), "purged.png": "broken_link"}
    with pytest.raises(ImageError, match=r"passwd.png: a symbolic link leads to '/etc/passwd', .*cp -rL"):
        ImageReader(snapshot).open("passwd.png")


def test_only_real_folders_make_a_cache(repository: Path, storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (repository / "blobs").rename(tmp_path / "elsewhere" / "blobs")
    (repository / "blobs").symlink_to(tmp_path / "elsewhere" / "blobs")
    found = fates(storage, repository / "snapshots" / REVISION)
    assert found == dict.fromkeys(NAMES, "outside_root")


def test_links_inside_a_plain_folder_neither_repeat_nor_lose_anything(
    tmp_path: Path, storage: Storage
) -> None:
    raw = tmp_path / "raw"
    for name in ("a/1.png", ".kept/2.png", ".kept/more/3.png", ".kept/more/deep/4.png"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_bytes(png(int(name[-5])))
    (raw / "copy.png").symlink_to("a/1.png")
    os.link(raw / "a" / "1.png", raw / "hard.png")
    (raw / "again").symlink_to("a")  # listed by itself
    (raw / "round").symlink_to(".")
    (raw / "shown").symlink_to(".kept")  # nothing else leads there
    (raw / ".kept" / "loop").symlink_to(".")
    (raw / ".kept" / "up").symlink_to("..")
    (raw / "self.png").symlink_to("self.png")
    assert fates(storage, raw) == {
        **dict.fromkeys(("a/1.png", "copy.png", "hard.png")),
        **dict.fromkeys(("shown/2.png", "shown/more/3.png", "shown/more/deep/4.png")),
        "self.png": "broken_link",
    }
    assert passed_over(storage)["link to a folder that is listed by itself"] == 4
    assert ImageReader(raw).read_bytes("shown/2.png") == png(2)


def test_a_folder_behind_a_link_that_leads_out_says_what_to_do(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "photos").symlink_to(tmp_path / "elsewhere")
    [shard] = assign_image_shards(storage, str(tmp_path / "raw"), CONFIG)
    frame = ingest_images(storage, str(tmp_path / "raw"), shard, CONFIG)
    [error] = frame.filter(pl.col("path") == "photos")["error"]
    assert error.startswith(f"linked_folder: a symbolic link leads to '{tmp_path}/elsewhere', outside of")
    assert ".toml" in error and "cp -rL" in error


def test_what_is_named_in_full_may_be_a_link_and_what_a_pattern_finds_may_not(
    tmp_path: Path, storage: Storage
) -> None:
    (tmp_path / "disk").mkdir()
    pq.write_table(pa.table({"image": [png(5)]}), tmp_path / "disk" / "2024.parquet")
    (tmp_path / "latest.parquet").symlink_to("disk/2024.parquet")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.parquet").symlink_to("../disk/2024.parquet")
    assert fates(storage, tmp_path / "latest.parquet") == {"latest.parquet#0": None}
    assert fates(Storage("memory://links"), tmp_path / "in" / "*.parquet") == {"x.parquet": "outside_root"}
