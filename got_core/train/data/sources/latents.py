"""Stored latents in place of pictures, each sample in one ranged read.

    NAME/places.npy, tars.json   where each row's block lies (see ``places``)
    NAME/listed.json             rows whose pictures could not be read when latents were made, with the reason

Belongs here: finding and reading a sample's latents. Not here: their bytes (``got_core.train.latents``), what
a step makes of them (``latents``), patience (``pictures``).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from got_core.corpus.decode import ImageError
from got_core.storage import Storage
from got_core.table_columns import read_columns
from got_core.train.config import StageConfig
from got_core.train.data.manifest import Row, TrainingManifest
from got_core.train.data.manifest_file import manifest_of
from got_core.train.data.pictures import PatientReader, PictureCare, PictureError
from got_core.train.data.sources.places import Place, TarPlaces, part_of, places_by
from got_core.train.data.sources.protocol import Content
from got_core.train.latents.blocks import StoredLatents
from got_core.train.latents.files import LatentFiles
from got_core.train.latents.key import LatentKey, LatentsMissingError, check_stored
from got_core.train.latents.parts import checked, indexes, row_digest
from got_core.train.run import TrainingRun

LISTED = "listed.json"
_COLUMNS = ["sample_id", "file", "offset", "size", "reason", "error"]
_AT_ONCE = 16
"""Indexes that are read at the same time."""
MISSING = "no_latents"
"""Reason of rows that have none."""

_Listed = dict[int, tuple[str, str]]


class LatentPlaces:
    """Where the latents of a manifest's rows lie.

    ``listed``: reason and error of rows whose pictures could not be read when latents were made.
    """

    def __init__(self, places: TarPlaces, listed: _Listed) -> None:
        self.places, self.listed = places, listed

    @classmethod
    def mapped(cls, folder: Path) -> LatentPlaces:
        """Places from a folder."""
        listed = json.loads((folder / LISTED).read_text())
        return cls(TarPlaces.mapped(folder), {int(row): (why, error) for row, (why, error) in listed.items()})

    @property
    def missing(self) -> int:
        """Rows of which nothing is known: they were not there when latents were made."""
        return len(self.places) - self.places.packed - len(self.listed)

    def save(self, folder: Path) -> None:
        """Write them into a local folder."""
        self.places.save(folder)
        (folder / LISTED).write_text(json.dumps(self.listed))


def find_latents(storage: Storage, key_folder: str, manifest: TrainingManifest) -> LatentPlaces:
    """Where the latents of the manifest's rows lie, as they are now."""
    names = indexes(storage, key_folder)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = list(pool.map(lambda name: read_columns(storage, name, _COLUMNS), names))
    frame = pl.concat([pl.DataFrame(schema=_SCHEMA), *parts]).unique("sample_id", keep="first")
    held = frame.drop_nulls("file").rename({"file": "tar"}).drop("reason", "error")
    places = places_by(manifest, held, ["sample_id"])
    wrong = frame.filter(pl.col("file").is_null())
    why = {one: (reason, error) for one, reason, error in wrong.select("sample_id", "reason", "error").rows()}
    listed = {place: why[manifest.sample_id(place)] for place in manifest.found(["sample_id"], why)}
    return LatentPlaces(places, listed)


_SCHEMA = {
    **dict.fromkeys(["sample_id", "file"], pl.String),
    **dict.fromkeys(["offset", "size"], pl.Int64),
    **dict.fromkeys(["reason", "error"], pl.String),
}


def with_latents(run: TrainingRun, config: StageConfig, key: LatentKey, name: str, stage: str) -> TrainingRun:
    """The run with the places of its rows' latents in the storage's folder ``name``, as they are now.

    A few rows without latents are substituted while the stage trains, as rows without a readable picture are.

    Raises LatentsMissingError where the stage's kind of latents is not stored, or lacks a larger share of the
    rows than ``config.max_substituted``.
    """
    storage, manifest = run.storage(), manifest_of(run)
    check_stored(storage, key, stage)
    found = find_latents(storage, key.folder, manifest)
    rows = len(manifest)
    if found.missing > config.max_substituted * rows:
        raise LatentsMissingError(
            f"{stage}: {found.missing:,} of {rows:,} samples have no latents in {key.folder}, and "
            f"max_substituted allows {config.max_substituted:.1%}: materialize latent_shards"
        )
    if lacking := found.missing + len(found.listed):
        run.report(f"{stage}: {lacking:,} of {rows:,} samples have no latents and are substituted")
    with storage.new_folder(name) as folder:
        found.save(folder)
    return replace(run, places=name)


def places_are_of_latents(run: TrainingRun) -> bool:
    """Whether a run reads stored latents, and no picture at all."""
    return run.places is not None and run.storage().exists(f"{run.places}/{LISTED}")


def latents_of(run: TrainingRun) -> LatentPlaces:
    """Where the latents of a run's rows lie. Raises LatentsMissingError where the run does not say it."""
    if run.places is None:
        raise LatentsMissingError("a stage that reads latents is trained by train_stage, which finds them")
    return LatentPlaces.mapped(run.storage().download(run.places))


class Latents:
    """A source of stored latents.

    A file that a takedown has rewritten meanwhile is looked up anew in its index.

    Args:
        storage: that holds them.
        places: where each row's block lies.
        row: a row of the manifest by its place.
        care: patience; None: one try of each sample.
    """

    def __init__(
        self,
        storage: Storage,
        places: LatentPlaces,
        row: Callable[[int], Row],
        care: PictureCare | None = None,
    ) -> None:
        self._storage, self._places, self._row, self._care = storage, places, row, care
        self._start()

    def _start(self) -> None:
        self._files = LatentFiles(self._storage)
        self._reader = PatientReader(self._read, self._care, self._name)
        self._looked_up: dict[str, dict[str, Place]] = {}
        """Parts whose file was rewritten since: places by sample."""
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_files", "_reader", "_looked_up", "_lock")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._start()

    def read(self, rows: Sequence[int]) -> list[Content | Exception]:
        """See ``SampleSource``: the rows' latents."""
        held = [row for row in rows if self._places.places.has(row)]
        found: dict[int, Content | Exception] = dict(zip(held, self._reader.all(held), strict=True))
        return [found[row] if row in found else self._absent(row) for row in rows]

    def _name(self, row: int) -> str:
        return f"latents of {self._row(row)['sample_id']}"

    def _absent(self, row: int) -> PictureError:
        if row in self._places.listed:
            reason, error = self._places.listed[row]
            return PictureError(self._name(row), reason, error)
        return PictureError(self._name(row), MISSING, "they were not made: materialize latent_shards")

    def _read(self, row: int) -> StoredLatents:
        wanted = self._row(row)
        found = self._found(wanted["sample_id"], self._places.places.of(row))
        if found.digest != row_digest(wanted):
            raise ImageError("changed", "they were made of another picture or chain than the manifest names")
        return found

    def _found(self, sample_id: str, place: Place) -> StoredLatents:
        if (part := part_of(place.tar)) in self._looked_up:
            place = self._place(part, sample_id)
        try:
            return self._block(sample_id, place)
        except (FileNotFoundError, ValueError) as error:
            self._look_up(part)
            moved = self._place(part, sample_id)
            if moved == place:
                raise ImageError("bad_archive", f"{place.tar}: {error}") from error
            return self._block(sample_id, moved)

    def _block(self, sample_id: str, place: Place) -> StoredLatents:
        block = self._files.array(place.tar, place.offset, place.size)
        return checked(block, {"file": place.tar, "size": place.size, "sample_id": sample_id})

    def _place(self, part: str, sample_id: str) -> Place:
        if sample_id not in self._looked_up[part]:
            raise ImageError(MISSING, f"{part} does not hold them any more")
        return self._looked_up[part][sample_id]

    def _look_up(self, part: str) -> None:
        with self._lock:
            try:
                index = self._storage.read_table(part).drop_nulls("file")
            except FileNotFoundError:
                self._looked_up[part] = {}
            else:
                rows = index.select("sample_id", "file", "offset", "size").iter_rows()
                self._looked_up[part] = {sample_id: Place(*place) for sample_id, *place in rows}
