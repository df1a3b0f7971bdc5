"""Deleting what a plan says, so that it can be stopped at any moment and done again.

Belongs here: order, batches, what was freed. Not here: what goes (`plan`).

What marks a thing as whole (metrics, notes of checkpoints, lists of files) goes first: what is left of a
removal that was killed counts as unfinished everywhere, and the next one takes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from got_core.filesystems import is_s3, local_path, open_filesystem
from got_core.retention.listing import Entry
from got_core.retention.plan import Unit
from got_core.storage import Storage

BATCH = 1000
"""Files between two looks at the clock; S3 takes as many in one request."""
_REPORT_SECONDS = 5.0
Report = Callable[[str], None]


@dataclass
class Freed:
    """What a removal has done."""

    files: int = 0
    size: int = 0
    """Bytes."""
    faults: dict[str, str] = field(default_factory=dict)
    """Files that could not be deleted, with the store's words."""

    def add(self, other: Freed) -> None:
        """Take in what another removal has done."""
        self.files, self.size = self.files + other.files, self.size + other.size
        self.faults |= other.faults


def remove_units(storage: Storage, units: Sequence[Unit], report: Report = lambda line: None) -> Freed:
    """Delete all files of units, what marks them as whole first.

    Files that are gone already count as nothing. What a single file's deletion meets is in `faults`; a store
    that cannot be used raises StoreUnavailableError.
    """
    files = [one for unit in units for one in unit.files if not one.name.endswith("/")]
    marks = sorted((one for one in files if _marks(one)), key=lambda one: one.name.count("/"))
    rest = [one for one in files if not _marks(one)]
    freed, delete, said = Freed(), _deleting(storage), time.monotonic()
    for batch in (*_batches(marks), *_batches(rest)):
        faults = delete([one.name for one in batch])
        freed.faults |= faults
        freed.files += len(batch) - len(faults)
        freed.size += sum(one.size for one in batch if one.name not in faults)
        if time.monotonic() - said > _REPORT_SECONDS:
            report(f"{freed.files:,} of {len(files):,} files deleted, {freed.size / 1e9:,.3f} GB freed")
            said = time.monotonic()
    if root := local_path(storage.url):
        for unit in units:
            _without_empty_folders(root / unit.name)
    return freed


def _marks(entry: Entry) -> bool:
    return entry.name.endswith(".json")


def _batches(files: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    return (files[start : start + BATCH] for start in range(0, len(files), BATCH))


def _deleting(storage: Storage) -> Callable[[Iterable[str]], dict[str, str]]:
    """Deletes files by name; returns those that it could not delete, with the reason."""
    if root := local_path(storage.url):
        return lambda names: _one_by_one(names, lambda name: os.unlink(root / name))
    fs, folder = open_filesystem(storage.url, **storage.fs_options)
    folder = folder.rstrip("/")
    if not is_s3(storage.url):
        return lambda names: _one_by_one(names, lambda name: fs.rm_file(f"{folder}/{name}"))

    def delete(names: Iterable[str]) -> dict[str, str]:
        faults = fs.delete_objects([f"{folder}/{name}" for name in names])
        return {path[len(folder) + 1 :]: why for path, why in faults.items()}

    return delete


def _one_by_one(names: Iterable[str], delete: Callable[[str], None]) -> dict[str, str]:
    faults = {}
    for name in names:
        try:
            delete(name)
        except FileNotFoundError:
            continue
        except OSError as error:
            faults[name] = error.strerror or str(error)
    return faults


def _without_empty_folders(folder: Path) -> None:
    """Remove a unit's folder, as far as it is empty."""
    for parent, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            os.rmdir(parent)
