"""Tars: samples with their licence, and what hostile or damaged archives try."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import polars as pl
import pytest

from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ingest_images
from got_core.corpus.shards import assign_image_shards, read_shard
from got_core.corpus.tars import read_tar
from got_core.storage import Storage

from .pictures import png

CONFIG = IngestConfig(workers=2)


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Header and data of one member."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


END = bytes(1024)


def reasons(data: bytes, config: IngestConfig = CONFIG) -> list[tuple[str, str | None]]:
    found = list(read_tar(io.BytesIO(data), "a.tar", config))
    return [(one.origin, one.error.reason if one.error else None) for one in found]


def test_samples_carry_licence_and_source_wherever_the_json_stands(tmp_path: Path, storage: Storage) -> None:
    facts = json.dumps({"license": "CC-BY-4.0", "source_name": "lahr", "caption": "x"}).encode()
    (tmp_path / "a.tar").write_bytes(
        member("000/1.json", facts) + member("000/1.png", png(1)) + member("000/1.txt", b"words")
        + member("000/2.png", png(2)) + member("000/2.json", facts)
        + member("000/3.png", png(3)) + member("000/4.png", b"no picture") + END
    )  # fmt: skip
    [shard] = assign_image_shards(storage, str(tmp_path / "*.tar"), CONFIG)
    assert read_shard(storage, shard)["kind"].to_list() == ["tar"]
    frame = ingest_images(storage, str(tmp_path / "*.tar"), shard, CONFIG)
    found = {
        row["paths"][0]: (row["source"], row["licence"], row["reason"]) for row in frame.rows(named=True)
    }
    assert found == {
        "a.tar//000/1.png": ("lahr", "CC-BY-4.0", None),
        "a.tar//000/2.png": ("lahr", "CC-BY-4.0", None),
        "a.tar//000/3.png": ("raw", None, None),
        "a.tar//000/4.png": ("raw", None, "not_an_image"),
    }
    again = ingest_images(storage, str(tmp_path / "*.tar"), shard, CONFIG)
    assert again.equals(frame) and not storage.list("stored_images/")


def test_members_that_lead_out_or_elsewhere_are_refused_and_nothing_is_written(
    tmp_path: Path, storage: Storage
) -> None:
    data = (
        member("../up.png", png(1)) + member("/etc/absolute.png", png(2)) + member("a/../../b.png", png(3))
        + member("..\\windows.png", png(4)) + member("link.png", kind=tarfile.SYMTYPE, link="/etc/passwd")
        + member("hard.png", kind=tarfile.LNKTYPE, link="../up.png") 
        + member("pipe.png", kind=tarfile.FIFOTYPE) + member("folder", kind=tarfile.DIRTYPE)
        + member("good.png", png(5)) + END
    )  # fmt: skip
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.tar").write_bytes(data)
    raw = str(tmp_path / "raw" / "a.tar")
    [shard] = assign_image_shards(storage, raw, CONFIG)
    frame = ingest_images(storage, raw, shard, CONFIG)
    found = dict(frame.filter(pl.col("error").is_not_null()).select("path", "reason").iter_rows())
    out, special = "outside_root", "not_a_file"
    assert found == {
        "a.tar//../up.png": out,
        "a.tar///etc/absolute.png": out,
        "a.tar//a/../../b.png": out,
        "a.tar//..\\windows.png": out,
        "a.tar//link.png": special,
        "a.tar//hard.png": special,
        "a.tar//pipe.png": special,
    }
    assert frame.filter(pl.col("error").is_null())["paths"].to_list() == [["a.tar//good.png"]]
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.png")}
    assert not written


def test_a_gzip_bomb_ends_early_and_keeps_what_came_before() -> None:
    bomb = gzip.compress(member("1.png", png(1)) + member("2.bin", bytes(70 * 1024**2)) + END, 9)
    assert len(bomb) < 1024**2
    assert reasons(bomb) == [("a.tar//1.png", None), ("a.tar", "decompression_bomb")]


def test_limits_on_members_bytes_and_single_files() -> None:
    data = b"".join(member(f"{index}.png", png(index)) for index in range(4)) + END
    few = IngestConfig(max_archive_members=2)
    assert reasons(data, few) == [("a.tar//0.png", None), ("a.tar//1.png", None), ("a.tar", "archive_limit")]
    assert reasons(data, IngestConfig(max_archive_bytes=1024))[-1] == ("a.tar", "archive_limit")
    small = IngestConfig(max_bytes=len(png(0)) - 1)
    assert reasons(member("0.png", png(0)) + END, small) == [("a.tar//0.png", "too_large")]


def test_a_header_that_claims_gigabytes_is_not_read() -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("x")
        info.size, info.type = 8 * 1024**3 - 1, kind
        assert reasons(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)) == [("a.tar", "decompression_bomb")]


@pytest.mark.parametrize("where", [0.3, 0.5, 0.9])
def test_a_cut_or_overwritten_archive_says_so(where: float) -> None:
    blocks = [member(f"{index}.png", png(index)) for index in range(6)]
    data = b"".join(blocks) + END
    assert [reason for _, reason in reasons(data)] == [None] * 6
    assert reasons(data[: int(len(data) * where)])[-1] == ("a.tar", "bad_archive")
    start = sum(map(len, blocks[: int(6 * where)]))  # a header in the middle
    broken = data[:start] + b"\xff" * 512 + data[start + 512 :]
    assert reasons(broken)[-1] == ("a.tar", "bad_archive")
    assert reasons(gzip.compress(data)[: int(len(data) * where)])[-1][1] in (None, "bad_archive")


def test_tars_strung_together_are_read_to_the_end_and_no_tar_is_refused() -> None:
    one, two = member("1.png", png(1)) + END, member("2.png", png(2)) + END
    assert reasons(one + two) == [("a.tar//1.png", None), ("a.tar//2.png", None)]
    for data in (b"", b"<html>not here</html>" * 100, gzip.compress(b"words")):
        assert reasons(data) == [("a.tar", "bad_archive")]


def test_unreadable_metadata_quarantines_its_pictures() -> None:
    data = member("1.png", png(1)) + member("1.json", b"{broken") + member("2.png", png(2)) + END
    assert reasons(data) == [("a.tar//1.png", "bad_metadata"), ("a.tar//2.png", None)]
    deep = member("1.json", b"[" * 100_000) + member("1.png", png(1)) + END
    assert reasons(deep) == [("a.tar//1.png", "bad_metadata")]
