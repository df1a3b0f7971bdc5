"""What must stay: all that registered versions, documents of assets and unfinished trainings name.

Belongs here: collecting names. Not here: what becomes of a unit (`plan`), asking the registry (`registered`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from got_core.retention.kinds import NOTE, place_of
from got_core.storage import TABLE_SUFFIX, Storage

TRIALS_TABLE = "ablation_runs"
_UNUSED = "unused"
"""Key of a document below which stand folders that are not in use."""
_SPLIT = re.compile(r"[,@\s]+")
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_NOTE_PATH = re.compile(r"models/([^/]+)/unfinished/[^/]+")


@dataclass
class Roots:
    """Names of units and digests that are in use, each with what names it."""

    units: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of weights, manifests and the like, whole and their first 12 digits."""

    trainings: dict[str, str] = field(default_factory=dict)
    """Folders of trainings that have begun and not ended: since when."""

    def add(self, value: Any, why: str) -> None:
        """Take in all names in a document, a tag or a list of them. The first that names a thing counts."""
        for word in _words(value):
            self.units.setdefault(place_of(word).unit, why)
            if _DIGEST.fullmatch(word):
                self.digests.setdefault(word, why)
                self.digests.setdefault(word[:12], why)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from filter(None, _SPLIT.split(value))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            if key != _UNUSED:
                yield from _words(key)
                yield from _words(one)
    elif isinstance(value, Iterable) and not isinstance(value, bytes):
        for one in value:
            yield from _words(one)


def add_stored(roots: Roots, storage: Storage, names: Iterable[str]) -> None:
    """Take in what a storage's own documents name. `names`: of all its documents.

    Raises ValueError or OSError where one of them cannot be read: what it names is then not known.
    """
    for name in sorted(names):
        with suppress(FileNotFoundError):  # a training has ended since the listing: it names nothing more
            _add_document(roots, storage, name)


def _add_document(roots: Roots, storage: Storage, name: str) -> None:
    if place_of(name).kind == NOTE:
        _add_training(roots, name, storage.read_json(name))
    elif "/" not in name and name.endswith(".json") and not name.startswith("."):
        roots.add(storage.read_json(name), f"{name} names it")
    elif name == f"{TRIALS_TABLE}{TABLE_SUFFIX}":
        columns = storage.read_table(TRIALS_TABLE).to_dict(as_series=False)
        roots.add(columns, f"{name} names it")


def _add_training(roots: Roots, name: str, note: Any) -> None:
    stage = _NOTE_PATH.fullmatch(name)
    if stage is None or not isinstance(note, dict) or not isinstance(note.get("key"), str):
        raise ValueError(f"{name} is no record of a training; delete it, or put it back")
    folder = f"models/{stage[1]}/{note['key']}"
    begun = str(note.get("begun", "an unknown time"))
    roots.trainings[folder] = begun
    why = f"a training of {stage[1]} needs it that has not ended"
    roots.units[folder] = f"its training has not ended (got train restart {stage[1]} gives it up)"
    roots.units[f"ray/{stage[1]}-{note['key']}"] = why
    roots.add(note, why)
