"""Where the rows of a manifest lie in the storage's training tars.

    NAME/places.npy     of each row: number of its tar (-1: in none), size and offset in bytes
    NAME/tars.json      names of the tars

A row's place counts only where the tar holds the very files that the manifest speaks of. Belongs here:
finding places, and mapping them from a file. Not here: reading from tars (``tars``).
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from got_core.corpus.sample_tars import FOLDER, indexes
from got_core.storage import Storage
from got_core.table_columns import read_columns
from got_core.train.data.manifest import TrainingManifest
from got_core.train.data.manifest_file import manifest_of
from got_core.train.run import TrainingRun

PLACES, TARS = "places.npy", "tars.json"
_DTYPE = np.dtype([("tar", np.int32), ("size", np.int32), ("offset", np.int64)])
_IDS = ["sample_id", "image_id"]
_AT_ONCE = 16
"""Indexes that are read at the same time."""


class Place(NamedTuple):
    """Where a sample lies."""

    tar: str
    offset: int
    size: int


class TarPlaces:
    """Places of a manifest's rows. One that is mapped from a folder is pickled as its name."""

    def __init__(self, tars: list[str], table: np.ndarray, folder: Path | None = None) -> None:
        self._tars, self._table, self._folder = tars, table, folder

    @classmethod
    def mapped(cls, folder: Path) -> TarPlaces:
        """Places from a folder (see :meth:`save`)."""
        table = np.load(folder / PLACES, mmap_mode="r", allow_pickle=False)
        return cls(json.loads((folder / TARS).read_text()), table, folder)

    def __reduce__(self) -> Any:
        if self._folder is not None:
            return TarPlaces.mapped, (self._folder,)
        return TarPlaces, (self._tars, self._table)

    def __len__(self) -> int:
        """Rows of the manifest."""
        return len(self._table)

    @property
    def packed(self) -> int:
        """Number of rows that are in a tar."""
        return int(np.count_nonzero(self.packed_rows))

    @property
    def packed_rows(self) -> np.ndarray:
        """Which rows are in a tar, bool (N,)."""
        return np.asarray(self._table["tar"] >= 0)

    def has(self, row: int) -> bool:
        """Whether a row is in a tar."""
        return bool(self._table["tar"][row] >= 0)

    def of(self, row: int) -> Place:
        """The place of a row that is in a tar."""
        number, size, offset = self._table[row].tolist()
        return Place(self._tars[number], offset, size)

    def save(self, folder: Path) -> None:
        """Write them into a local folder."""
        np.save(folder / PLACES, self._table, allow_pickle=False)
        (folder / TARS).write_text(json.dumps(self._tars))


def find_places(storage: Storage, manifest: TrainingManifest) -> TarPlaces | None:
    """Where the manifest's rows lie; None where no tar of the storage has one."""
    frame = _read_indexes(storage, _shards(manifest))
    if frame.is_empty():
        return None
    found = places_by(manifest, frame, _IDS)
    return found if found.packed else None


def places_by(manifest: TrainingManifest, frame: pl.DataFrame, on: list[str]) -> TarPlaces:
    """Places of the manifest's rows by an index: the columns ``on``, tar, offset and size. Where it has a
    source_id, that has to be the row's."""
    tars = frame["tar"].unique().sort()
    numbers = pl.DataFrame({"tar": tars, "number": pl.Series(np.arange(len(tars), dtype=np.int32))})
    index = frame.join(numbers, on="tar").unique(on, keep="first", maintain_order=True).drop("tar")
    checked = ["source_id"] if "source_id" in frame.columns else []
    table = np.zeros(len(manifest), dtype=_DTYPE)
    table["tar"] = -1
    start = 0
    for batch in manifest.batches:
        rows: Any = pl.from_arrow(batch.select([*on, *checked]))
        found = rows.join(index, on=on, how="left", maintain_order="left")
        unlike = [(pl.col(name) != pl.col(f"{name}_right")).fill_null(False) for name in checked]
        other = pl.any_horizontal(pl.lit(False), *unlike)
        number = pl.when(other).then(None).otherwise("number").fill_null(-1)
        part = table[start : start + batch.num_rows]
        part["tar"] = found.select(number).to_series().to_numpy()
        for name in ("size", "offset"):
            part[name] = found[name].fill_null(0).to_numpy()
        start += batch.num_rows
    return TarPlaces(tars.to_list(), table)


def places_of(run: TrainingRun, manifest: TrainingManifest) -> TarPlaces | None:
    """Where the rows of a run's manifest lie: mapped from its file, where it has one, else looked for."""
    if run.places is None:
        return find_places(run.storage(), manifest)
    return TarPlaces.mapped(run.storage().download(run.places))


def with_places(run: TrainingRun, name: str) -> TrainingRun:
    """The run with the places of its rows in the storage's folder ``name``, as they are now."""
    storage, manifest = run.storage(), manifest_of(run)
    places = find_places(storage, manifest)
    packed, rows = 0 if places is None else places.packed, len(manifest)
    if packed < rows:
        run.report(
            f"{rows - packed:,} of {rows:,} samples are in no training tar; their pictures are read from raw "
            "files and tars given as input"
        )
    if places is None:
        return run
    with storage.new_folder(name) as folder:
        places.save(folder)
    return replace(run, places=name)


def part_of(tar: str) -> str:
    """Name of the index of a tar, as a table of the storage."""
    return tar.rpartition("-")[0]


def _shards(manifest: TrainingManifest) -> set[str]:
    """Shards whose tars may hold rows; none where the manifest does not say which pictures it has."""
    found: set[str] = set()
    for batch in manifest.batches:
        if not {"shard", *_IDS, "source_id"} <= set(batch.schema.names):
            return set()
        found |= set(batch.column("shard").unique().to_pylist())
    return found


def _read_indexes(storage: Storage, shards: set[str]) -> pl.DataFrame:
    """Of the samples in the tars of shards: ids, tar, offset and size."""
    names = [name for name in indexes(storage, FOLDER) if PurePosixPath(name).parent.name in shards]
    columns = [*_IDS, "source_id", "tar", "offset", "size"]

    def read(name: str) -> pl.DataFrame:
        return read_columns(storage, name, columns).drop_nulls("tar")

    if not names:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return pl.concat(pool.map(read, names))
