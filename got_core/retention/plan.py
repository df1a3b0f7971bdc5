"""What goes, what stays, and why: from a listing and the roots.

Belongs here: the decision for each unit; whatever is not decided stays. Not here: names (`kinds`, `roots`),
deleting (`removal`).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from got_core.retention import kinds
from got_core.retention.config import DAY, UNFINISHED_DAYS, KeepConfig
from got_core.retention.listing import Entry, entries
from got_core.retention.registered import DOCUMENT, add_registered
from got_core.retention.roots import Roots, add_stored
from got_core.storage import TABLE_SUFFIX, Storage

_RANK = re.compile(r"rank-(\d{5,})-of-(\d{5,})\.json")
_TAR = re.compile(r"(training_shards/([^/]+)/\d{5,})-[0-9a-f]{16}\.tar")
_HOLDING = frozenset({kinds.TEMPORARY, kinds.PROBE, kinds.FAILURE, kinds.BLOB, *kinds.OF_MODELS})
"""Kinds of which the names of all files are held in memory; others are only counted."""


@dataclass
class Unit:
    """What stays or goes as one."""

    kind: str
    name: str
    """Folder or file in the storage."""
    files: list[Entry] = field(default_factory=list)
    goes: bool = False
    why: str = ""
    shard: str | None = None
    """Whose lease is needed to remove it."""

    @property
    def changed(self) -> float:
        """Of the file that changed last."""
        return max((one.changed for one in self.files), default=float("inf"))


@dataclass
class Tally:
    """Units of one kind that stay or go for one reason."""

    units: int = 0
    files: int = 0
    size: int = 0
    """Bytes."""
    oldest: float = float("inf")
    """When the file that is unchanged for longest was changed."""

    def add(self, files: Iterable[Entry]) -> None:
        """Count one more unit."""
        self.units += 1
        for one in files:
            self.files += not one.name.endswith("/")
            self.size += one.size
            self.oldest = min(self.oldest, one.changed)


@dataclass
class Plan:
    """What a look at a storage has found."""

    going: list[Unit]
    kept: dict[tuple[str, str], Tally]
    """By kind and reason."""
    unknown: list[str]
    """Names of some files that are not recognised."""
    versions: int
    """How many registered versions were asked for what they need."""

    def rows(self) -> dict[tuple[str, str], Tally]:
        """What goes, by kind and reason."""
        found: dict[tuple[str, str], Tally] = {}
        for unit in self.going:
            found.setdefault((unit.kind, unit.why), Tally()).add(unit.files)
        return found


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a plan is made from beside the storage."""

    tracking_uri: str
    keep: KeepConfig = field(default_factory=KeepConfig)
    assets: Collection[str] = ()
    """Names of assets whose values the storage may hold."""
    named: Collection[str] = ()
    """URLs that settings name, such as GOT_WEIGHTS."""
    at_work: str = ""
    """Who makes models meanwhile, if anybody does: then nothing of theirs goes."""
    now: float | None = None
    """Seconds since 1970; None: this moment."""


_MOST_UNKNOWN = 20
_RIGHT_AFTER = 3600.0


def make_plan(storage: Storage, look: Look) -> Plan:
    """Look through a storage and decide. Writes and deletes nothing.

    Raises RegistryUnavailableError where the registry cannot be asked, OSError, StoreUnavailableError or
    ValueError where the storage cannot be listed or a document that may name something cannot be read.
    """
    now = time.time() if look.now is None else look.now
    found = _sorted_out(storage, look)
    roots = Roots()
    versions = add_registered(roots, storage, look.tracking_uri, DOCUMENT in found.documents)
    add_stored(roots, storage, found.documents)
    for url in look.named:
        path = url.removeprefix("file://").removeprefix(f"{storage.url.removeprefix('file://')}/")
        roots.add(path, "a setting names it")
    decide = _Decision(storage, look, roots, now, found)
    for unit in found.units.values():
        unit.goes, unit.why = decide(unit)
    _with_their_models(found.units)
    going = [unit for unit in found.units.values() if unit.goes and unit.files]
    for unit in found.units.values():
        if not unit.goes:
            found.kept.setdefault((unit.kind, unit.why), Tally()).add(unit.files)
    return Plan(sorted(going, key=lambda unit: unit.name), found.kept, found.unknown, versions)


@dataclass
class _Found:
    """A listing, sorted out."""

    units: dict[str, Unit] = field(default_factory=dict)
    """What may go, by name."""
    kept: dict[tuple[str, str], Tally] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    documents: set[str] = field(default_factory=set)
    """Names of what may name units."""
    indexes: dict[str, float] = field(default_factory=dict)
    """Indexes of training tars: when they were changed."""

    def count(self, entry: Entry, kind: str) -> None:
        """A file that stays, whatever is found out."""
        if kind == kinds.UNKNOWN and len(self.unknown) < _MOST_UNKNOWN:
            self.unknown.append(entry.name)
        if kind == kinds.INDEXES:
            self.indexes[entry.name] = entry.changed
        if entry.plain and (kind == kinds.NOTE or "/" not in entry.name):
            self.documents.add(entry.name)
        why = "never touched" if kind == kinds.UNKNOWN else "always kept"
        self.kept.setdefault((kind, why), Tally()).add([entry])


def _sorted_out(storage: Storage, look: Look) -> _Found:
    found = _Found()
    for entry in entries(storage):
        kind, name = kinds.UNKNOWN, entry.name
        if entry.plain:
            kind, name = kinds.place_of(entry.name.rstrip("/"), look.assets)
        if kind in _HOLDING:
            found.units.setdefault(name, Unit(kind, name)).files.append(entry)
        else:
            found.count(entry, kind)
    return found


def _with_their_models(units: dict[str, Unit]) -> None:
    """Checkpoints of a model that goes are part of it."""
    for unit in [one for one in units.values() if one.kind == kinds.CHECKPOINT]:
        model = units.get(_model_of(unit.name))
        if model is not None and model.goes:
            model.files += unit.files
            unit.files, unit.goes = [], True


def _model_of(checkpoint: str) -> str:
    return checkpoint.partition("/checkpoints/")[0]


class _Decision:
    """Whether a unit goes, and why or why not."""

    def __init__(self, storage: Storage, look: Look, roots: Roots, now: float, found: _Found) -> None:
        self._storage, self._look, self._roots, self._now = storage, look, roots, now
        units, self._indexes = found.units, found.indexes
        self._tars = Counter(one.name.rpartition("-")[0] for one in units.values() if one.kind == kinds.BLOB)
        self._last = _last_checkpoints(units)
        self._finished = {
            one.name for one in units.values() if any(f"{one.name}/metrics.json" == f.name for f in one.files)
        }
        self._youngest = _youngest(units)
        self._manifest: str | None = None

    def __call__(self, unit: Unit) -> tuple[bool, str]:
        """Whether it goes, and the reason."""
        if unit.kind in kinds.OF_MODELS and (why := self._named(unit)):
            return False, why
        days = self._days(unit.kind)
        age = self._now - self._youngest.get(unit.name, unit.changed)
        if not age >= days * DAY:
            return False, f"changed in the last {days:g} days"
        if unit.kind in kinds.OF_MODELS and self._look.at_work:
            return False, self._look.at_work
        if unit.kind == kinds.BLOB:
            return self._blob(unit)
        if unit.kind == kinds.ARCHIVE and unit.name == f"manifests/{self._current()}{TABLE_SUFFIX}":
            return False, "it is the manifest that there is now"
        return True, f"{_WHY.get(unit.kind, 'nothing names it')}, not changed for {days:g} days"

    def _days(self, kind: str) -> float:
        keep = self._look.keep
        if kind in (kinds.CHECKPOINT, kinds.RAY):
            return keep.checkpoints
        if kind in (kinds.PICTURES, kinds.TRIAL):
            return keep.benchmarks
        if kind == kinds.FAILURE:
            return keep.failures
        return keep.models if kind in kinds.OF_MODELS else UNFINISHED_DAYS

    def _named(self, unit: Unit) -> str | None:
        """What keeps a unit whatever its age."""
        if unit.kind == kinds.CHECKPOINT:
            return self._checkpoint(unit.name)
        if why := self._roots.units.get(unit.name):
            return why
        last = unit.name.rpartition("/")[2]
        if unit.kind == kinds.PICTURES:
            return self._roots.digests.get(last)
        if unit.kind in (kinds.ARCHIVE, kinds.TRAINING_MANIFEST):
            return self._roots.digests.get(last.removesuffix(TABLE_SUFFIX).rpartition("-")[2])
        if unit.kind == kinds.LATENTS and self._roots.trainings:
            return "a training has not ended, which may read them"
        return None

    def _checkpoint(self, name: str) -> str | None:
        model = _model_of(name)
        if model in self._roots.trainings:
            return self._roots.units[model]
        if model not in self._finished:
            return "its training has no end, and it goes with it"
        return "the last of a finished training" if self._last.get(model) == name else None

    def _blob(self, unit: Unit) -> tuple[bool, str]:
        found = _TAR.fullmatch(unit.name)
        assert found is not None
        unit.shard = found[2]
        index = self._indexes.get(f"{found[1]}{TABLE_SUFFIX}")
        # Written right after the tar: the usual case needs no look into it.
        alone = self._tars[found[1]] == 1
        if alone and index is not None and index - unit.changed < _RIGHT_AFTER:
            return False, "an index names it"
        if tar_is_named(self._storage, unit.name):
            return False, "an index names it"
        return True, f"no index names it, not changed for {UNFINISHED_DAYS:g} days"

    def _current(self) -> str:
        """Content hash of the manifest that there is, read only where an archived one could go."""
        if self._manifest is None:
            from got_core.frame_hash import content_hash

            there = self._storage.exists(f"training_manifest{TABLE_SUFFIX}")
            self._manifest = content_hash(self._storage.read_table("training_manifest")) if there else ""
        return self._manifest


_WHY = {
    kinds.TEMPORARY: "a write that broke off",
    kinds.PROBE: "left by a check that broke off",
    kinds.CHECKPOINT: "its training is finished, and it is not the last",
    kinds.RAY: "its training has ended",
    kinds.FAILURE: "an old record",
}


def tar_is_named(storage: Storage, name: str) -> bool:
    """Whether the index of a tar's part names it."""
    found = _TAR.fullmatch(name)
    if found is None:
        return True
    try:
        return name in storage.read_table(found[1])["tar"].to_list()
    except FileNotFoundError:
        return False


def _youngest(units: dict[str, Unit]) -> dict[str, float]:
    """When anything of a model was changed last, its checkpoints included."""
    found: dict[str, float] = {}
    for unit in units.values():
        if unit.kind == kinds.CHECKPOINT:
            name = _model_of(unit.name)
            own = units[name].changed if name in units else 0.0
            found[name] = max(found.get(name, own), unit.changed)
    return found


def _last_checkpoints(units: dict[str, Unit]) -> dict[str, str]:
    """Of each training the newest checkpoint that is complete; else the newest one."""
    found: dict[str, tuple[bool, str]] = {}
    for unit in _checkpoints(units):
        model, mark = _model_of(unit.name), (_is_complete(unit), unit.name)
        found[model] = max(found.get(model, mark), mark)
    return {model: name for model, (_, name) in found.items()}


def _checkpoints(units: dict[str, Unit]) -> Iterator[Unit]:
    return (unit for unit in units.values() if unit.kind == kinds.CHECKPOINT)


def _is_complete(unit: Unit) -> bool:
    notes = [_RANK.fullmatch(one.name.rpartition("/")[2]) for one in unit.files]
    ranks = {(int(note[1]), int(note[2])) for note in notes if note}
    counts = {count for _, count in ranks}
    return len(counts) == 1 and {rank for rank, _ in ranks} == set(range(*counts))
