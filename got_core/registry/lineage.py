"""What a version was made from, in its tags: data sets with licences and counts.

    data_sets/MANIFEST.json     the same of one manifest, in the storage

Belongs here: counting, the tags, which licences forbid commerce. Not here: single images
(`got_core.curate.trained_on`), the card (`card`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.model.formats.foundation_folder import packaged_manifests

if TYPE_CHECKING:
    from got_core.storage import Storage

FOLDER = "data_sets"
DATA_SETS_TAG = "data_sets"
NON_COMMERCIAL_TAG = "non_commercial"
"""Tag of versions with data whose licence forbids commerce: those licences, with commas between."""

_MOST = 100
"""Data sets that a tag names; the smallest are counted together."""
_FORBIDS = re.compile(
    r"(?<![a-z])nc(?![a-z])|non[\s_-]*commercial|no[\s_-]*commercial|research[\s_-]*(use[\s_-]*)?only|"
    r"academic[\s_-]*(use[\s_-]*)?only|not[\s_-]*for[\s_-]*commercial",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, order=True)
class DataSet:
    """Rows of one source under one licence."""

    source: str
    licence: str | None
    kind: str
    """t2i or edit"""

    rows: int

    @property
    def non_commercial(self) -> bool:
        """Whether its licence forbids commerce, as far as its name tells."""
        return self.licence is not None and forbids_commerce(self.licence)


def forbids_commerce(licence: str) -> bool:
    """Whether the name of a licence says so: CC BY-NC, "non-commercial", "research only"."""
    return _FORBIDS.search(licence) is not None


def data_sets_of(manifest: pl.DataFrame) -> list[DataSet]:
    """Of a manifest's rows (`source`, `licence`, `kind`), the largest first."""
    counted = (
        manifest.group_by("source", "licence", "kind")
        .len("rows")
        .sort(["rows", "source", "kind", "licence"], descending=[True, False, False, False], nulls_last=True)
    )
    return [
        DataSet(source=row["source"] or "", licence=row["licence"], kind=row["kind"], rows=row["rows"])
        for row in counted.iter_rows(named=True)
    ]


def write_data_sets(storage: Storage, manifest_hash: str, manifest: pl.DataFrame) -> None:
    """Keep a manifest's data sets in the storage."""
    storage.write_json(f"{FOLDER}/{manifest_hash}.json", [asdict(one) for one in data_sets_of(manifest)])


def lineage_tags(
    storage: Storage, manifests: Sequence[str], start: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The tags of a version that was trained on these manifests, and started from one with the tags `start`.

    None of data sets where one of the manifests has none in the storage: half a list would be taken for all.
    The rendered scenes of the package's own weights are nobody's, and are not among them.
    """
    own = set(packaged_manifests())
    found = [_stored(storage, digest) for digest in manifests if digest not in own]
    before = read_data_sets(start or {})
    if None in found or (start and before is None):
        return {}
    listed = [one for part in found if part is not None for one in part]
    # A later stage reads the same manifest: its rows are the same rows.
    joined: dict[tuple[str, str | None, str], int] = {}
    for one in [*listed, *(before or [])]:
        key = (one.source, one.licence, one.kind)
        joined[key] = max(joined.get(key, 0), one.rows)
    sets = [DataSet(source=s, licence=lic, kind=k, rows=n) for (s, lic, k), n in joined.items()]
    return tags_of(sorted(sets, key=lambda one: (-one.rows, one.source, one.kind, one.licence or "")))


def tags_of(data_sets: Sequence[DataSet]) -> dict[str, str]:
    """The tags of a version with this data."""
    kept, rest = data_sets[:_MOST], data_sets[_MOST:]
    if rest:
        rows = sum(one.rows for one in rest)
        kept = [*kept, DataSet(source=f"{len(rest)} further", licence=None, kind="t2i", rows=rows)]
    forbidding = dict.fromkeys(one.licence for one in data_sets if one.non_commercial)
    tags = {DATA_SETS_TAG: json.dumps([asdict(one) for one in kept])}
    return tags | ({NON_COMMERCIAL_TAG: ", ".join(map(str, forbidding))} if forbidding else {})


def read_data_sets(tags: Mapping[str, str]) -> list[DataSet] | None:
    """What a version's tag says; None where it says nothing, or somebody has damaged it."""
    try:
        found = [DataSet(**one) for one in json.loads(tags.get(DATA_SETS_TAG) or "null")]
    except (TypeError, ValueError):
        return None
    return found if all(isinstance(one.rows, int) and isinstance(one.source, str) for one in found) else None


def licences_missing(data_sets: Iterable[DataSet]) -> int:
    """Rows of which no licence is stated."""
    return sum(one.rows for one in data_sets if not one.licence)


def _stored(storage: Storage, digest: str) -> list[DataSet] | None:
    name = f"{FOLDER}/{digest}.json"
    if "/" in digest or not storage.exists(name):
        return None
    found: list[Any] = storage.read_json(name)  # type: ignore[assignment]
    return [DataSet(**one) for one in found]
