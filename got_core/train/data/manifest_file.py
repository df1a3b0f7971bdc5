"""The file of a stage's manifest: written once, mapped by every process that trains on it.

    NAME/rows.arrow       the manifest's rows, Arrow IPC, uncompressed, in batches of bounded size
    NAME/columns.arrow    their numbers (see ``columns``), in one batch
    NAME/manifest.json    content hash, rows, rows of a batch, sources, bytes of both files

Of a remote storage each node has one copy, in the storage's cache. Belongs here: writing, checking and
mapping. Not here: what is asked of the rows (``manifest``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from got_core.storage import Storage
from got_core.train.data.columns import COLUMNS, ColumnMaker
from got_core.train.data.manifest import BATCH_ROWS, MemoryManifest, TrainingManifest, batches_of

if TYPE_CHECKING:  # brings torch
    from got_core.train.run import TrainingRun

FORMAT = 1
MANIFESTS = "training_manifests"
"""Folder in the storage of manifests of trainings that share one, by content hash."""
ROWS, NUMBERS, NOTE = "rows.arrow", "columns.arrow", "manifest.json"


class ManifestFileError(ValueError):
    """A file that is not the manifest that the training began with."""


class MappedManifest(TrainingManifest):
    """Rows and columns of a file, mapped: what is not looked at takes no memory.

    Args:
        folder: that the file's parts lie in.
        manifest_hash: content hash of the manifest that it has to hold.

    Raises ManifestFileError where it is another one, cut off or damaged. Its bytes are not hashed.
    """

    def __init__(self, folder: Path, manifest_hash: str) -> None:
        self.folder, self.hash = folder, manifest_hash
        note = _checked_note(folder, manifest_hash)
        self.batch_rows, self._sources = note["batch_rows"], note["sources"]
        self.batches = _mapped(folder / ROWS)
        numbers = _mapped(folder / NUMBERS)
        full, rest = divmod(note["rows"], note["batch_rows"])
        wanted = [self.batch_rows] * full + [rest] * (rest > 0)
        _check(folder, "rows of its batches", [batch.num_rows for batch in self.batches], wanted)
        _check(folder, "rows of numbers", [batch.num_rows for batch in numbers], [note["rows"]])
        self._numbers = self._checked(numbers[0])
        types = {name: pa.from_numpy_dtype(dtype) for name, dtype in COLUMNS.items()}
        _check(folder, "numbers that lack", sum(one.null_count for one in self._numbers.columns), 0)
        _check(folder, "columns", {one.name: one.type for one in self._numbers.schema}, types)

    def column(self, name: str) -> np.ndarray:
        return self._numbers.column(name).to_numpy(zero_copy_only=True)

    @property
    def sources(self) -> list[str]:
        return self._sources

    def _read(self, part: Any) -> list[Any]:
        try:
            return super()._read(part)
        except UnicodeDecodeError as error:
            raise _damaged(self.folder / ROWS, str(error)) from error

    def _checked(self, part: Any) -> Any:
        try:
            return super()._checked(part)
        except pa.ArrowException as error:
            raise _damaged(self.folder / ROWS, str(error)) from error

    def __reduce__(self) -> Any:
        return MappedManifest, (self.folder, self.hash)


def manifest_of(run: TrainingRun) -> TrainingManifest:
    """The manifest of a run: mapped from its file (a remote one is fetched first), else of its frame.

    Raises ManifestFileError where the file is not what it should be, FileNotFoundError where it is gone.
    """
    if run.manifest_file is None:
        assert run.manifest is not None
        return MemoryManifest(run.manifest)
    return MappedManifest(run.storage().download(run.manifest_file), run.manifest_hash)


def in_file(run: TrainingRun, name: str) -> TrainingRun:
    """The run with its manifest in the storage's folder ``name``, where it is written unless it is there."""
    storage = run.storage()
    if stored_hash(storage, name) != run.manifest_hash:
        if run.manifest is not None:
            write_manifest(storage, name, run.manifest, run.manifest_hash)
        elif run.manifest_file is not None:
            storage.upload(storage.download(run.manifest_file), name)
    return replace(run, manifest=None, manifest_file=name)


def stored_hash(storage: Storage, name: str) -> str | None:
    """Content hash of the manifest in a folder of the storage; None where there is none."""
    note = f"{name}/{NOTE}"
    return storage.read_json(note)["hash"] if storage.exists(note) else None


def stored_manifests(storage: Storage) -> dict[str, str]:
    """Folders of all manifests in the storage, each with its content hash."""
    notes = [one for folder in ("models/", f"{MANIFESTS}/") for one in storage.list(folder)]
    names = [one.removesuffix(f"/{NOTE}") for one in notes if one.endswith(f"/{NOTE}")]
    return {name: storage.read_json(f"{name}/{NOTE}")["hash"] for name in names}


def write_manifest(
    storage: Storage, name: str, frame: pl.DataFrame, manifest_hash: str, batch_rows: int = BATCH_ROWS
) -> None:
    """Write or replace a manifest's file; a batch of ``batch_rows`` rows is held at a time."""
    with storage.new_folder(name) as folder:
        maker, parts = ColumnMaker(), {name: [np.empty(0, dtype)] for name, dtype in COLUMNS.items()}
        schema = frame.head(0).to_arrow().schema

        def batches() -> Iterable[pa.RecordBatch]:
            for batch in batches_of(frame, batch_rows):
                for name, made in parts.items():
                    made.append(maker.of(batch, name))
                yield batch

        _write(folder / ROWS, schema, batches())
        numbers = pa.record_batch({name: np.concatenate(made) for name, made in parts.items()})
        _write(folder / NUMBERS, numbers.schema, [numbers])
        note = {"format": FORMAT, "hash": manifest_hash, "rows": frame.height, "batch_rows": batch_rows}
        note |= {"sources": maker.sources}
        note |= {"bytes": {part: (folder / part).stat().st_size for part in (ROWS, NUMBERS)}}
        Storage(str(folder)).write_json(NOTE, note)


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with open(path, "wb") as file:
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())


def _mapped(path: Path) -> list[pa.RecordBatch]:
    """The batches of a file, none of whose values is read."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        _ = reader.schema.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    return batches


def _checked_note(folder: Path, manifest_hash: str) -> dict[str, Any]:
    try:
        note = Storage(str(folder)).read_json(NOTE)
        _check(folder, "format", note["format"], FORMAT)
        _check(folder, "content hash", note["hash"], manifest_hash)
        found = {part: (folder / part).stat().st_size for part in (ROWS, NUMBERS)}
        _check(folder, "bytes", found, note["bytes"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ManifestFileError):
            raise
        raise _damaged(folder / NOTE, f"{type(error).__name__}: {error}") from error
    return note


def _check(folder: Path, what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise _damaged(folder, f"{what}: {found}, needed: {wanted}")


def _damaged(path: Path, found: str) -> ManifestFileError:
    return ManifestFileError(
        f"{path} is not the manifest that the training began with ({found}); to begin anew with today's "
        "data: got train restart STAGE, then run again (a copy in the cache of a remote storage: delete it)"
    )
