"""A takedown on the graph's storage: by the index of ids, with leases, and an event for each rewritten table.

Belongs here: what the graph adds. Not here: what is removed, and how (`got_core.curate.takedown`).

An event has the new data version, and names the new versions of rewritten inputs of the same shard, so that
nothing of the shard counts as out of date for rows that are gone everywhere. What reads all shards does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
)
from dagster._core.event_api import EventLogRecord

from got_assets.defs.lists.observing import Lists
from got_assets.leasing import leases_for
from got_assets.needs import INPUTS_TAG, TRAINED_ON_TAG, partition_digest
from got_assets.project import Project
from got_core.figures import SHOWN
from got_core.frame_hash import content_hash
from got_core.leases import is_held
from got_core.storage import Storage

if TYPE_CHECKING:
    from got_core.curate.takedown import TakenDown

REMOVED = "rows_taken_down"
"""Metadata of a takedown's event: how many rows the table lost."""
_KEPT = (DATA_VERSION_TAG, CODE_VERSION_TAG, INPUTS_TAG, TRAINED_ON_TAG)
_OF_INPUTS = (INPUT_DATA_VERSION_TAG_PREFIX, INPUT_EVENT_POINTER_TAG_PREFIX)


def apply_takedowns(project: Project, instance: dg.DagsterInstance, work: str) -> TakenDown:
    """Remove what the takedown list names (`take_down`); `work`: command or run, for others who wait.

    A shard that another process works on is waited for. Raises ValueError where a list cannot be read.
    """
    from got_core.curate.reach import Reach
    from got_core.curate.takedown import take_down
    from got_core.curate.takedown_lists import read_judged, read_takedowns

    storage = project.storage
    if read_takedowns(storage).is_empty() and read_judged(storage).is_empty():
        return take_down(storage, project.recipe.curate, project.readers())
    lists = Lists(project, instance)

    def lease(shard: str) -> AbstractContextManager[object]:
        return nullcontext() if is_held(shard) else leases_for(project, work).held(shard)

    def rewritten(shard: str | None, tables: Sequence[str]) -> None:
        report_rewritten(instance, storage, shard, tables)

    reach = Reach(indices=(lists.index("images"), lists.index("edits")), lease=lease, rewritten=rewritten)
    return take_down(storage, project.recipe.curate, project.readers(), reach)


def report_rewritten(
    instance: dg.DagsterInstance, storage: Storage, shard: str | None, tables: Sequence[str]
) -> list[str]:
    """Report tables of a shard (None: without shards) whose content is not that of their last event; returns
    the assets."""
    changed = {one.asset: one for one in _changed(instance, storage, shard, tables)}
    reported: dict[str, EventLogRecord] = {}
    for one in _inputs_first(changed):
        instance.report_runless_asset_event(one.event(reported, changed))
        found = _latest(instance, one.asset, shard)
        assert found
        reported[one.asset] = found
    return [*reported]


@dataclass(frozen=True, kw_only=True)
class _Rewritten:
    """A table that was rewritten, and the event of before."""

    asset: str
    shard: str | None
    version: str
    rows: int | None
    """None of what is no table."""
    before: EventLogRecord

    @property
    def tags(self) -> Mapping[str, str]:
        materialization = self.before.asset_materialization
        return (materialization.tags if materialization else None) or {}

    def reads(self, asset: str) -> bool:
        return f"{INPUT_DATA_VERSION_TAG_PREFIX}/{asset}" in self.tags

    def event(
        self, reported: Mapping[str, EventLogRecord], changed: Mapping[str, _Rewritten]
    ) -> dg.AssetMaterialization:
        tags = {k: v for k, v in self.tags.items() if k in _KEPT or k.startswith(_OF_INPUTS)}
        tags[DATA_VERSION_TAG] = self.version
        for parent in (one for one in reported if self.reads(one)):
            version = changed[parent].version
            said = version if self.shard is None else partition_digest([version])
            tags[f"{INPUT_DATA_VERSION_TAG_PREFIX}/{parent}"] = said
            tags[f"{INPUT_EVENT_POINTER_TAG_PREFIX}/{parent}"] = str(reported[parent].storage_id)
        return dg.AssetMaterialization(
            self.asset, partition=self.shard, tags=tags, metadata=self._metadata(),
            description="rows on the takedown list were removed",
        )  # fmt: skip

    def _metadata(self) -> dict[str, Any]:
        materialization = self.before.asset_materialization
        before: dict[str, Any] = dict(materialization.metadata) if materialization else {}
        # Pages of before show what is gone, and are gone themselves.
        kept = {
            name: one for name, one in before.items() if f"/{SHOWN}/" not in str(getattr(one, "value", one))
        }
        if self.rows is None:
            return before
        rows = before.get("dagster/row_count")
        removed = {} if rows is None else {REMOVED: int(rows.value) - self.rows}
        return kept | {"dagster/row_count": self.rows} | removed


def _changed(
    instance: dg.DagsterInstance, storage: Storage, shard: str | None, tables: Sequence[str]
) -> list[_Rewritten]:
    """Tables whose content is not that of their last event, and what was made from those: as it is, that
    follows from them, since rows that are gone are gone there, too."""
    found = [*filter(None, (_now(instance, storage, shard, name) for name in (*tables, *_pages(shard))))]
    chosen = {one.asset for one in found if one.tags.get(DATA_VERSION_TAG) != one.version}
    for _ in found if shard is not None else ():
        chosen |= {one.asset for one in found if any(one.reads(asset) for asset in chosen)}
    return [one for one in found if one.asset in chosen]


def _pages(shard: str | None) -> list[str]:
    from got_core.curate.gallery import PAGE_FOLDERS

    return [] if shard is None else [f"{folder}/{shard}" for folder in PAGE_FOLDERS]


def _now(instance: dg.DagsterInstance, storage: Storage, shard: str | None, name: str) -> _Rewritten | None:
    asset = name.partition("/")[0]
    before = _latest(instance, asset, shard)
    if before is None or before.asset_materialization is None:
        return None
    if name in _pages(shard):
        version = (before.asset_materialization.tags or {}).get(DATA_VERSION_TAG, "")
        return _Rewritten(asset=asset, shard=shard, version=version, rows=None, before=before)
    frame = storage.read_table(name)
    return _Rewritten(asset=asset, shard=shard, version=content_hash(frame), rows=frame.height, before=before)


def _inputs_first(changed: Mapping[str, _Rewritten]) -> Iterator[_Rewritten]:
    left = dict(changed)
    while left:
        ready = [one for one in left.values() if not any(one.reads(other) for other in left)]
        for one in ready or [*left.values()]:
            yield left.pop(one.asset)


def _latest(instance: dg.DagsterInstance, asset: str, shard: str | None) -> EventLogRecord | None:
    partitions = None if shard is None else [shard]
    chosen = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=partitions)
    found = instance.fetch_materializations(chosen, limit=1).records
    return found[0] if found else None
