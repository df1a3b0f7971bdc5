"""S3 Inventory as a listing: the newest whole manifest, its files one after the other, from any place on.

Belongs here: manifests, their checksums, and the place where reading stands. Does not belong here: columns of
the files (``inventory_files``), which objects are input (``listing``).

A file is fetched to this machine's temporary folder, compared with its MD5, and read in bounded memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from got_core.corpus.inputs import Input
from got_core.corpus.inventory_files import FORMATS, OBJECTS, columns_of, read_objects
from got_core.filesystems import open_filesystem

PAGE = 20_000
"""Rows of a part, at most."""
SORTED = 100_000
"""Rows that are sorted together: an inventory need not be in the order of its keys, and the index of what is
listed is read for ranges of keys."""
_DATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\dZ")
_MANIFEST = "manifest.json"

_log = logging.getLogger(__name__)


class Objects(NamedTuple):
    """Some objects of an input."""

    frame: pl.DataFrame
    """:data:`inventory_files.OBJECTS`, keys relative to the input's base and sorted."""
    place: str
    """Where the next ones begin."""
    more: bool = False
    """Whether there are more in this inventory."""


class NoInventoryError(FileNotFoundError):
    """There is no whole inventory, perhaps not yet."""


class _DamagedError(ValueError):
    """A file of an inventory is not there, or not as its manifest says."""


@dataclass(frozen=True, kw_only=True)
class _File:
    key: str
    size: int
    md5: str


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    where: str
    """Its URL, for people."""
    name: str
    """The dated folder and its checksum: what a place begins with."""
    bucket: str
    """That the inventory is of."""
    format: str
    columns: list[str]
    files: list[_File]


class _Place(NamedTuple):
    """How far an inventory was read."""

    manifest: str = ""
    input: str = ""
    """A digest of what was looked for: where that changes, reading begins anew."""
    file: int = 0
    row: int = 0
    """Rows that were looked at of the file, sorted ``SORTED`` at a time."""
    done: bool = False

    @property
    def text(self) -> str:
        return json.dumps(list(self))

    @classmethod
    def of(cls, text: str) -> _Place:
        return cls(*json.loads(text)) if text else cls()


def inventory_of(place: str) -> str:
    """Which inventory a place lies in; empty for the empty place."""
    return _Place.of(place).manifest


def objects_of(one: Input, place: str = "", looked_for: str = "") -> Iterator[Objects]:
    """Objects below an input's base by its inventory, from a place on; at least one part, if an empty one.

    An inventory that was begun is read to its end before a newer one begins, unless its files are gone. One
    that was read to its end is not read again.

    Args:
        looked_for: what else the caller looks for; where it is another text than before, all is read again.

    Raises:
        NoInventoryError: there is no whole inventory (yet).
        ValueError: the inventory is of another bucket, lacks columns, or a file of it is missing or damaged;
            the message names it and what to do.
    """
    return _Inventory(one, looked_for).objects(_Place.of(place))


class _Inventory:
    def __init__(self, one: Input, looked_for: str) -> None:
        assert one.inventory is not None
        self._url = one.inventory.rstrip("/")
        self._fs, self._root = open_filesystem(self._url, **one.options)
        self._root = self._root.rstrip("/")
        bucket, _, folder = open_filesystem(one.base, **one.options)[1].rstrip("/").partition("/")
        self._source, self._prefix = bucket, f"{folder}/" if folder else ""
        wanted = repr((one.base, one.pattern, looked_for, SORTED))
        self._input = hashlib.sha256(wanted.encode()).hexdigest()[:16]

    def objects(self, place: _Place) -> Iterator[Objects]:
        newest = self._newest()
        start = _Place(newest.name, self._input)
        if place.input != self._input:
            place = start
        if place.done and place.manifest == newest.name:
            yield Objects(pl.DataFrame(schema=OBJECTS), place.text)
            return
        if place.manifest != newest.name:
            begun = None if place.done else self._begun(place)
            if begun is not None:
                try:
                    yield from self._read(begun, place)
                    return
                except _DamagedError as error:
                    _log.warning("%s; the newer inventory %s is read instead", error, newest.where)
            place = start
        yield from self._read(newest, place)

    # Manifests

    def _newest(self) -> _Manifest:
        incomplete = []
        for folder in self._folders():
            found = self._manifest(folder)
            if isinstance(found, _Manifest):
                return found
            incomplete.append(found)
            _log.warning("an inventory is passed over, an older one counts: %s", found)
        found = f" ({incomplete[0]})" if incomplete else ""
        raise NoInventoryError(
            f"there is no whole inventory in {self._url}{found}; give the folder (destination prefix/source "
            "bucket/name of the configuration) that holds folders such as 2026-01-31T01-00Z with "
            "manifest.json and manifest.checksum; the first comes within 48 hours of its configuration"
        )

    def _folders(self) -> list[str]:
        """Paths of folders with a manifest, the newest first."""
        if self._root.endswith(f"/{_MANIFEST}"):
            return [self._root.removesuffix(f"/{_MANIFEST}")]
        try:
            names = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = {name.rstrip("/") for name in names}
        return sorted((name for name in names if _DATED.fullmatch(name.rpartition("/")[2])), reverse=True)

    def _begun(self, place: _Place) -> _Manifest | None:
        """The manifest of a place, where it is still there."""
        name = place.manifest.partition("#")[0]
        folder = next((one for one in self._folders() if one.rpartition("/")[2] == name), None)
        found = self._manifest(folder) if folder else None
        return found if isinstance(found, _Manifest) and found.name == place.manifest else None

    def _manifest(self, folder: str) -> _Manifest | str:
        """A folder's manifest, or why it is none that is whole."""
        where = f"s3://{folder}/{_MANIFEST}"
        try:
            data = self._fs.cat_file(f"{folder}/{_MANIFEST}")
            checksum = self._fs.cat_file(f"{folder}/manifest.checksum").decode("ascii", "replace").strip()
        except FileNotFoundError as error:
            return f"{where} is not whole yet: {error} is not there"
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if checksum.lower() != digest:
            return f"{where} is not whole: its MD5 is {digest}, manifest.checksum has {checksum[:40]!r}"
        return self._parsed(data, where, f"{folder.rpartition('/')[2]}#{digest}")

    def _parsed(self, data: bytes, where: str, name: str) -> _Manifest:
        try:
            found = json.loads(data)
            bucket, form, schema = (found[key] for key in ("sourceBucket", "fileFormat", "fileSchema"))
            files = [
                _File(key=one["key"], size=int(one["size"]), md5=one["MD5checksum"].lower())
                for one in found["files"]
            ]
            known = form.upper() in FORMATS
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{where} is no manifest of S3 Inventory ({type(error).__name__}: {error}); it needs "
                "sourceBucket, fileFormat, fileSchema and files with key, size and MD5checksum"
            ) from error
        if bucket != self._source:
            raise ValueError(
                f"{where} is an inventory of the bucket {bucket!r}, but raw is in {self._source!r}; set "
                "inventory to one of that bucket"
            )
        if not known:
            raise ValueError(f"{where} has files in the format {form!r}; {', '.join(FORMATS)} are read")
        columns = columns_of(schema, form, f"the inventory {where}")
        return _Manifest(where=where, name=name, bucket=bucket, format=form, columns=columns, files=files)

    # Files

    def _read(self, manifest: _Manifest, place: _Place) -> Iterator[Objects]:
        for number in range(place.file, len(manifest.files)):
            row = place.row if number == place.file else 0
            with tempfile.TemporaryDirectory(prefix="got-inventory-") as folder:
                path = self._fetched(manifest, manifest.files[number], Path(folder))
                for frame, rows in self._parts(manifest, manifest.files[number], path, row):
                    at = _Place(manifest.name, self._input, number, rows)
                    yield Objects(self._below(frame), at.text, more=True)
        done = _Place(manifest.name, self._input, len(manifest.files), 0, True)
        yield Objects(pl.DataFrame(schema=OBJECTS), done.text)

    def _fetched(self, manifest: _Manifest, file: _File, folder: Path) -> Path:
        """A whole local copy of a data file."""
        source, path = f"{self._root.partition('/')[0]}/{file.key}", folder / "data"
        what = f"the file s3://{source} of the inventory {manifest.where}"
        try:
            self._fs.get_file(source, str(path))
        except FileNotFoundError as error:
            raise _DamagedError(
                f"{what} does not exist; let a lifecycle rule keep files as long as their manifest, and wait "
                "for the next inventory or put the file back"
            ) from error
        with path.open("rb") as copy:
            digest = hashlib.file_digest(copy, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        size = path.stat().st_size
        if (size, digest) != (file.size, file.md5):
            raise _DamagedError(
                f"{what} has {size} bytes and the MD5 {digest}, its manifest says {file.size} and "
                f"{file.md5}; put the file back as it was, or wait for the next inventory"
            )
        return path

    def _parts(
        self, manifest: _Manifest, file: _File, path: Path, row: int
    ) -> Iterator[tuple[pl.DataFrame, int]]:
        """Rows of a file from `row` on, at most ``PAGE`` at a time, and how many rows were looked at then."""
        try:
            for frame in _in_blocks(read_objects(path, manifest.format, manifest.columns), row):
                first = int(frame["row"].min())  # type: ignore[arg-type]
                ordered = frame.sort("path", "row", nulls_last=True).drop("row")
                for start in range(max(0, row - first), frame.height, PAGE):
                    part = ordered.slice(start, PAGE)
                    yield part, first + start + part.height
        except (ValueError, pl.exceptions.PolarsError) as error:
            raise _DamagedError(
                f"the file {file.key} of the inventory {manifest.where}: {error}; its MD5 is what the "
                "manifest says, so it was written like this: wait for the next inventory"
            ) from error

    def _below(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Objects below the base, by keys relative to it."""
        frame = frame.filter(pl.col("path").str.starts_with(self._prefix))
        return frame.with_columns(pl.col("path").str.slice(len(self._prefix)))


def _in_blocks(frames: Iterator[pl.DataFrame], row: int) -> Iterator[pl.DataFrame]:
    """Frames of ``SORTED`` rows each, from the one that holds `row` on."""
    held: list[pl.DataFrame] = []
    first = row - row % SORTED
    for frame in frames:
        held.append(frame.filter(pl.col("row") >= first))
        while sum(one.height for one in held) >= SORTED:
            block = pl.concat(held)
            yield block.head(SORTED)
            held = [block.slice(SORTED)]
    rest: Any = pl.concat(held) if held else None
    if rest is not None and rest.height:
        yield rest
