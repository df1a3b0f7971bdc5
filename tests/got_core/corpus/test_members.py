"""Members of tars that are read where they lie: exactly those bytes, or an error that names them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path

import polars as pl
import pytest

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.ingest import ingest_images
from got_core.corpus.members import Member, shown, shown_column
from got_core.corpus.reader import ImageReader
from got_core.corpus.shards import assign_image_shards
from got_core.storage import Storage

from .pictures import png

CONFIG = IngestConfig(workers=2)
ID = "0123456789abcdef" * 4
ODD = ("a b#1+2.png", "x#3+4+" + ID, "deep//er.png", "über\n.png", "web://a.tar//b.png", "b.tar//c.png", "")


def tar_of(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def ingested(storage: Storage, raw: str) -> pl.DataFrame:
    """All rows of all shards."""
    shards = assign_image_shards(storage, raw, CONFIG)
    return pl.concat(ingest_images(storage, raw, shard, CONFIG) for shard in shards)


def opened(storage: Storage, raw: str) -> ImageReader:
    return ImageReader(raw, CONFIG, store_url=storage.url)


@pytest.mark.parametrize("archive", ["a.tar", "set-1/b.TAR", "web://a.tar", "deep/c.tar.gz", "a.tar.tar"])
@pytest.mark.parametrize("name", ODD)
def test_a_path_is_understood_as_the_member_that_it_was_made_of(archive: str, name: str) -> None:
    member = Member(archive, name, 512, 70_000, ID)
    assert member.has_path and Member.of(member.path) == member
    assert shown(member.path) == f"{archive}//{name}"
    paths = pl.DataFrame({"path": [member.path, "plain.png", "store://ab/cd.png"]})
    assert paths.select(shown_column(pl.col("path")))["path"].to_list() == [
        f"{archive}//{name}",
        "plain.png",
        "store://ab/cd.png",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "a.tar//1.png",
        f"tar+member://a.tar//1.png#1+2+{ID[1:]}",
        f"tar+member://a.tar//1.png#-1+2+{ID}",
        f"tar+member://a.tar//1.png#1+{'9' * 16}+{ID}",
        f"tar+member://a.tar//1.png#\u0661+2+{ID}",
        f"tar+member://a.tar//1.png#1+2+{ID}\n",
        f"tar+member://a.zip//1.png#1+2+{ID}",
        f"x/tar+member://a.tar//1.png#1+2+{ID}",
    ],
)
def test_what_names_no_member_is_none(path: str) -> None:
    assert Member.of(path) is None and shown(path) == path


def test_a_place_that_cannot_be_told_from_the_name_has_no_path() -> None:
    assert not Member("folder.tar//b.tar", "1.png", 1, 2, ID).has_path


def test_members_are_read_where_they_lie_and_nothing_is_copied(tmp_path: Path, storage: Storage) -> None:
    long = "d" * 60 + "/" + "n" * 120 + ".png"
    first = {"000/1.png": png(1), long: png(2), "a#1+2.png": png(3)}
    strung = tar_of(first) + tar_of({"later/4.png": png(4)}, tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(strung)
    frame = ingested(storage, str(tmp_path / "a.tar"))
    assert frame["error"].null_count() == frame.height == 4
    assert not storage.list("stored_images/")
    reader = pickle.loads(pickle.dumps(opened(storage, str(tmp_path / "a.tar"))))
    wanted = {**first, "later/4.png": png(4)}
    for row in frame.rows(named=True):
        member = Member.of(row["path"])
        assert member is not None and row["paths"] == [member.origin] and member.image_id == row["image_id"]
        assert strung[member.offset : member.offset + member.size] == wanted[member.name]
        assert reader.read_bytes(row["path"]) == wanted[member.name]
        assert reader(row["path"]).size == (row["width"], row["height"])


def test_tars_of_a_list_of_inputs_are_read_by_their_names(tmp_path: Path, storage: Storage) -> None:
    for name, seed in (("web", 1), ("own", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.tar").write_bytes(tar_of({"1.png": png(seed)}))
    (tmp_path / "inputs.toml").write_text('[web]\nraw = "web/*.tar"\n[own]\nraw = "own/a.tar"\n')
    frame = ingested(storage, str(tmp_path / "inputs.toml"))
    reader = opened(storage, str(tmp_path / "inputs.toml"))
    found = {row["paths"][0]: reader.read_bytes(row["path"]) for row in frame.rows(named=True)}
    assert found == {"web://a.tar//1.png": png(1), "own://a.tar//1.png": png(2)}


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar"])
def test_what_is_compressed_is_copied(tmp_path: Path, storage: Storage, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(tar_of({"1.png": png(1)})))
    [row] = ingested(storage, str(tmp_path / name)).rows(named=True)
    assert row["path"].startswith("store://") and len(storage.list("stored_images/")) == 1
    assert opened(storage, str(tmp_path / name)).read_bytes(row["path"]) == png(1)


def test_bad_members_keep_their_reasons(tmp_path: Path, storage: Storage) -> None:
    files = {"1.png": png(1), "cut.png": png(2)[:90], "../up.png": png(3), "words.png": b"words"}
    (tmp_path / "a.tar").write_bytes(tar_of(files))
    frame = ingested(storage, str(tmp_path / "a.tar"))
    assert dict(frame.filter(pl.col("error").is_not_null()).select("path", "reason").iter_rows()) == {
        "a.tar//cut.png": "truncated",
        "a.tar//../up.png": "outside_root",
        "a.tar//words.png": "not_an_image",
    }


def padded(seed: int) -> bytes:
    """Pictures of equal size in bytes: what stands behind a PNG's end is not looked at."""
    return png(seed).ljust(20_000, b"\0")


@pytest.fixture
def taken(tmp_path: Path, storage: Storage) -> tuple[Path, ImageReader, dict[str, str]]:
    """A tar of two pictures, its reader, and the path of each member."""
    tar = tmp_path / "raw" / "a.tar"
    tar.parent.mkdir()
    tar.write_bytes(tar_of({"1.png": padded(1), "2.png": padded(2)}))
    frame = ingested(storage, str(tar))
    paths = {row["paths"][0].rpartition("/")[2]: row["path"] for row in frame.rows(named=True)}
    return tar, opened(storage, str(tar)), paths


def fault(reader: ImageReader, path: str) -> ImageError:
    with pytest.raises(ImageError) as caught:
        reader(path)
    assert caught.value.detail.startswith(f"{shown(path)}: ")
    return caught.value


def test_another_picture_in_its_place_is_an_error_of_that_member(
    taken: tuple[Path, ImageReader, dict[str, str]],
) -> None:
    tar, reader, paths = taken
    stamp = os.stat(tar)
    tar.write_bytes(tar_of({"1.png": padded(1), "2.png": padded(3)}))
    os.utime(tar, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert reader.read_bytes(paths["1.png"]) == padded(1)
    found = fault(reader, paths["2.png"])
    assert found.reason == "changed" and found.detail.startswith("a.tar//2.png: a.tar has changed")


def test_members_that_moved_or_are_cut_off_are_errors(
    taken: tuple[Path, ImageReader, dict[str, str]],
) -> None:
    tar, reader, paths = taken
    tar.write_bytes(tar_of({"0.png": padded(0), "1.png": padded(1), "2.png": padded(2)}))
    assert {fault(reader, path).reason for path in paths.values()} == {"changed"}
    tar.write_bytes(tar_of({"1.png": padded(1)})[:15_000])
    assert {fault(reader, path).reason for path in paths.values()} == {"changed"}
    (tar.parent / "other.txt").touch()  # an empty folder may be a mount that is gone
    tar.unlink()
    assert {fault(reader, path).reason for path in paths.values()} == {"vanished"}
    tar.mkdir()
    assert {fault(reader, path).reason for path in paths.values()} == {"not_a_file"}


def test_the_same_bytes_under_another_date_are_the_same_picture(
    taken: tuple[Path, ImageReader, dict[str, str]],
) -> None:
    tar, reader, paths = taken
    os.utime(tar, (1, 1))
    assert reader.read_bytes(paths["2.png"]) == padded(2)


def test_no_path_leads_out_or_to_more_than_the_limit(
    taken: tuple[Path, ImageReader, dict[str, str]],
) -> None:
    tar, reader, paths = taken
    (tar.parent.parent / "secret.tar").write_bytes(tar.read_bytes())
    member = Member.of(paths["1.png"])
    assert member is not None
    (tar.parent / "link.tar").symlink_to(tar.parent.parent / "secret.tar")
    for archive in ("../secret.tar", str(tar.parent.parent / "secret.tar"), "link.tar", "other://a.tar"):
        assert fault(reader, member._replace(archive=archive).path).reason == "outside_root"
    assert fault(reader, member._replace(size=CONFIG.max_bytes + 1).path).reason == "too_large"
    os.mkfifo(tar.parent / "pipe.tar")
    assert fault(reader, member._replace(archive="pipe.tar").path).reason == "not_a_file"


def test_pictures_that_were_copied_before_are_read_on(tmp_path: Path, storage: Storage) -> None:
    from got_core.corpus.store import store_picture

    (tmp_path / "a.tar").write_bytes(tar_of({"1.png": png(1)}))
    copied = store_picture(storage, png(1), "PNG")
    (tmp_path / "a.tar").unlink()
    assert opened(storage, str(tmp_path / "a.tar")).read_bytes(copied) == png(1)
