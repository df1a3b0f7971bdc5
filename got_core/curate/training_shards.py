"""Training shards: accepted samples with their pictures as WebDataset tars with an index.

    training_shards/<shard>/00000.parquet            index of part 0: one row a sample
    training_shards/<shard>/00000-<hash>.tar         its samples, one after the other

A sample is `<id>.json`, `<id>.<ending>` (the picture to draw) and, for edits, `<id>.source.<ending>`, with
the files' own bytes. A tar is named by its content and the index names the tar, so an index never speaks of
another tar than it was made with: the tar is written first, then the index, then what no index names is
deleted. A sample stays in its part, new ones go into new parts, a removal rewrites only the parts it is in.
A sample whose picture lies in a tar given as input is listed and not written again, unless it shall be.

Belongs here: writing samples and removing them. Not here: reading them (`corpus.sample_tars`), which samples
(`rules`, `manifest`), what training makes of them.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol

import polars as pl

from got_core.corpus.ahead import IO_THREADS, ahead
from got_core.corpus.decode import ImageError, sniff_format
from got_core.corpus.members import Member, shown
from got_core.corpus.sample_tars import END, FOLDER, indexes, stacked
from got_core.corpus.schemas import SHARD_INDEX, frame_of
from got_core.corpus.tar_storage import TarStorage
from got_core.storage import Storage

_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}
_TAGS = (
    "prompt",
    "instructions",
    "chain",
    "kind",
    "shard",
    "image_id",
    "source_id",
    "pair_id",
    "source",
    "licence",
)
Progress = Callable[[int, int], None]


class ByteReader(Protocol):
    """Reads a file's bytes by its path in the manifest; raises ImageError. `ImageReader` is one."""

    def read_bytes(self, path: str) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class TarConfig:
    """How samples are cut into tars. Raises ValueError for less than one sample a tar."""

    samples_per_tar: int = 1000
    """Samples of a part. All but a shard's last part have as many, until samples are removed."""

    repack: bool = False
    """Whether pictures that lie in tars given as input are written again. If not, training reads them
    there."""

    def __post_init__(self) -> None:
        if self.samples_per_tar < 1:
            raise ValueError(f"samples_per_tar must be at least 1, got {self.samples_per_tar}")


class Removed(NamedTuple):
    """What a removal did."""

    samples: list[str]
    """sample_ids that are gone."""
    rewritten: list[str]
    """Indexes (storage names) that were rewritten."""


def write_training_shards(
    storage: Storage,
    shard: str,
    manifest: pl.DataFrame,
    readers: Mapping[str, ByteReader],
    config: TarConfig | None = None,
    progress: Progress | None = None,
    io_threads: int = IO_THREADS,
) -> pl.DataFrame:
    """Bring the tars of a shard up to date with its rows of the MANIFEST; returns their SHARD_INDEX.

    `readers` by kind (t2i, edit); see `TarConfig.repack` for what lies in tars already. Parts that hold what
    they should are left as they are, so a stopped run goes on where it was. As many samples as `io_threads`
    are read ahead of the one that is written. The same rows give the same bytes. A sample whose picture is
    gone, or is another one than was ingested, is listed with its reason and is in no tar.
    """
    config = config or TarConfig()
    folder = _folder(shard)
    rows = {row["sample_id"]: row for row in manifest.iter_rows(named=True)}
    left = {name for name, row in rows.items() if not config.repack and _in_place(row)}
    digests = {name: _row_digest(row, name in left) for name, row in rows.items()}
    parts = {name: storage.read_table(name) for name in indexes(storage, folder)}
    plan = _planned(folder, rows, parts, config.samples_per_tar)
    done = 0
    for name, wanted in plan.items():
        if not _up_to_date(storage, parts.get(name), {one: digests[one] for one in wanted}):
            made = partial(_sample_of, rows, digests, readers, left)
            with closing(ahead(made, wanted, io_threads)) as samples:
                parts[name] = _write_part(storage, name, samples)
        done += len(wanted)
        if progress:
            progress(done, len(rows))
    _sweep(storage, folder)
    return stacked(parts[name] for name in plan).sort("sample_id")


def remove(storage: Storage, ids: Collection[str], shards: Collection[str] | None = None) -> Removed:
    """Remove every sample of which the image, source image, pair or sample id is among the ids (of shards).

    Only parts that hold one are rewritten, from their own tars: the raw pictures need not be there any more.
    May be stopped and called again at any moment; afterwards no tar holds a removed sample.
    """
    removed_ids = pl.Series(sorted(ids), dtype=pl.String).implode()
    removed = Removed([], [])
    folders = [FOLDER] if shards is None else [_folder(shard) for shard in shards]
    for name in (one for folder in folders for one in indexes(storage, folder)):
        index = storage.read_table(name)
        columns = ("sample_id", "image_id", "source_id", "pair_id")
        hit = pl.any_horizontal(pl.col(column).is_in(removed_ids).fill_null(False) for column in columns)
        removed_rows = index.filter(hit)
        if removed_rows.height or not _covered(storage, index):
            _write_part(storage, name, (_copied(storage, row) for row in index.filter(~hit).to_dicts()))
            removed.samples.extend(removed_rows["sample_id"])
            removed.rewritten.append(name)
    if shards is None:
        folders = sorted({str(PurePosixPath(name).parent) for name in storage.list(f"{FOLDER}/")})
    for folder in folders:
        _sweep(storage, folder)  # also what a run that was stopped has left behind
    return removed


class _Sample(NamedTuple):
    """A row of the index without its place, and the tar members; none where there is an error, or the picture
    is left where it lies."""

    row: dict[str, Any]
    data: bytes


def _planned(
    folder: str, rows: Mapping[str, Any], parts: Mapping[str, pl.DataFrame], size: int
) -> dict[str, list[str]]:
    """Sample ids of each part: what is in a part already stays there, new samples make new parts."""
    plan = {name: [one for one in index["sample_id"] if one in rows] for name, index in sorted(parts.items())}
    placed = {one for names in plan.values() for one in names}
    new = sorted(one for one in rows if one not in placed)
    first = 1 + max((int(PurePosixPath(name).name) for name in plan), default=-1)
    for number, start in enumerate(range(0, len(new), size), start=first):
        plan[f"{folder}/{number:05d}"] = new[start : start + size]
    return plan


def _up_to_date(storage: Storage, index: pl.DataFrame | None, digests: Mapping[str, str]) -> bool:
    """Whether a part holds these samples as they are now, and nothing else."""
    if index is None or dict(index.select("sample_id", "digest").iter_rows()) != digests:
        return False
    return _covered(storage, index)


def _covered(storage: Storage, index: pl.DataFrame) -> bool:
    """Whether the index speaks of every byte of its tar.

    It does not where a row was taken out of the index alone: the tar then still holds that sample.
    """
    held = index.drop_nulls("tar").sort("offset")
    if held.is_empty():
        return True
    ends = (held["offset"] + held["size"]).to_list()
    whole = TarStorage(storage).size(held["tar"][0]) == ends[-1] + len(END)
    return whole and held["offset"].to_list() == [0, *ends[:-1]]


def _in_place(row: Mapping[str, Any]) -> bool:
    """Whether a sample's picture lies in a tar given as input. Those of edits never do."""
    return Member.of(row["target_path"]) is not None


def _sample_of(
    rows: Mapping[str, Any],
    digests: Mapping[str, str],
    readers: Mapping[str, ByteReader],
    left: Collection[str],
    one: str,
) -> _Sample:
    return _sample(rows[one], digests[one], readers, one in left)


def _sample(row: Mapping[str, Any], digest: str, readers: Mapping[str, ByteReader], left: bool) -> _Sample:
    listed = {name: row.get(name) for name in SHARD_INDEX if name in row} | {"digest": digest}
    if left:
        return _Sample(listed, b"")
    try:
        return _packed(row, listed, readers[row["kind"]])
    except ImageError as error:
        return _Sample(listed | {"error": str(error), "reason": error.reason}, b"")


def _packed(row: Mapping[str, Any], listed: dict[str, Any], reader: ByteReader) -> _Sample:
    key = row["sample_id"]
    if not _KEY.fullmatch(key):
        raise ImageError("bad_name", f"sample id {key!r} cannot name a file of a tar")
    image = _picture(reader, row["target_path"], row["image_id"])
    members = [(f"{key}.{_ending(image)}", image)]
    if row["source_path"] is not None:
        source = _picture(reader, row["source_path"], row.get("source_id"))
        listed["source_id"] = hashlib.sha256(source).hexdigest()
        members.append((f"{key}.source.{_ending(source)}", source))
    tags = {name: row.get(name) for name in _TAGS} | {"sample_id": key, "source_id": listed.get("source_id")}
    text = json.dumps(tags, sort_keys=True, ensure_ascii=False).encode()
    return _Sample(listed, b"".join(map(_member, [(f"{key}.json", text), *members])))


def _picture(reader: ByteReader, path: str, image_id: str | None) -> bytes:
    data = reader.read_bytes(path)
    found = hashlib.sha256(data).hexdigest()
    if image_id is not None and found != image_id:
        raise ImageError("changed", f"{shown(path)} has other bytes than when it was ingested")
    return data


def _ending(data: bytes) -> str:
    return ENDINGS.get(sniff_format(data) or "", "img")


def _member(named: tuple[str, bytes]) -> bytes:
    """Header, data and padding of a tar member; owner, time and mode are always the same."""
    name, data = named
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _copied(storage: Storage, row: dict[str, Any]) -> _Sample:
    if row["tar"] is None:
        return _Sample(row, b"")
    return _Sample(row, TarStorage(storage).read(row["tar"], row["offset"], row["size"]))


def _write_part(storage: Storage, name: str, samples: Iterable[_Sample]) -> pl.DataFrame:
    """Write the tar of a part, then its index."""
    rows: list[dict[str, Any]] = []
    with TarStorage(storage).new(name) as tar:
        for sample in samples:
            location: dict[str, Any] = {"tar": None, "offset": None, "size": None}
            if sample.data:
                location = {"tar": "", "offset": tar.written, "size": len(sample.data)}
                tar.write(sample.data)
            rows.append(sample.row | location)
        if tar.written:
            tar.write(END)
            stored = tar.publish()
            rows = [row | {"tar": None if row["tar"] is None else stored} for row in rows]
    index = frame_of([{column: row.get(column) for column in SHARD_INDEX} for row in rows], SHARD_INDEX)
    storage.write_table(name, index)
    return index


def _sweep(storage: Storage, folder: str) -> None:
    """Delete tars of a shard that no index names, and unfinished ones."""
    tars = TarStorage(storage)
    named = set(stacked(storage.read_table(name) for name in indexes(storage, folder))["tar"].drop_nulls())
    for name in storage.list(f"{folder}/"):
        if name.endswith(".tar") and name not in named:
            storage.delete(name)
    tars.sweep(folder)


def _row_digest(row: Mapping[str, Any], left: bool) -> str:
    # Sizes are not in the tars, and follow from the bytes that image_id names.
    packed = {name: value for name, value in row.items() if name not in ("width", "height")}
    packed |= {"left": True} if left else {}
    return hashlib.sha256(json.dumps(packed, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _folder(shard: str) -> str:
    if not _KEY.fullmatch(shard):
        raise ValueError(f"shard {shard!r} cannot name a folder")
    return f"{FOLDER}/{shard}"
