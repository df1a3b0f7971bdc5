"""The table at the end of a run: what each stage took in, gave out and rejected, and how long it took.

Belongs here: reading the numbers back from Dagster's record, so that a run in which nothing was made shows
the same table. Does not belong here: making anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEventType


@dataclass
class StageRow:
    """One asset, summed over its partitions; None where an asset has no rows to count."""

    stage: str
    rows_in: int | None = None
    rows_out: int | None = None
    rejected: int | None = None
    seconds: float = 0.0
    partitions: int = 0


def stage_rows(instance: dg.DagsterInstance, assets: Iterable[str], partitions: set[str]) -> list[StageRow]:
    """The latest materialization of each asset (of each of `partitions` where it is partitioned), summed."""
    return [row for row in (_stage_row(instance, asset, partitions) for asset in assets) if row.partitions]


def _stage_row(instance: dg.DagsterInstance, asset: str, partitions: set[str]) -> StageRow:
    row = StageRow(asset)
    for materialization in _latest(instance, asset, partitions):
        figures: dict[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
        row.partitions += 1
        row.seconds += figures.get("seconds", 0.0)
        if "rows_in" in figures:
            row.rows_in = (row.rows_in or 0) + figures["rows_in"]
            row.rows_out = (row.rows_out or 0) + figures["rows_out"]
            row.rejected = (row.rejected or 0) + figures["rows_rejected"]
    return row


def _latest(instance: dg.DagsterInstance, asset: str, partitions: set[str]) -> list[dg.AssetMaterialization]:
    key = dg.AssetKey(asset)
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, DagsterEventType.ASSET_MATERIALIZATION
    )
    wanted = [storage_id for name, storage_id in ids.items() if name in partitions]
    if wanted:
        chosen = dg.AssetRecordsFilter(asset_key=key, storage_ids=wanted)
        records = instance.fetch_materializations(chosen, limit=len(wanted)).records
        found = [record.asset_materialization for record in records]
    else:
        event = instance.get_latest_materialization_event(key)
        found = [event.asset_materialization if event else None]
    return [
        one for one in found if one is not None and (one.partition is None or one.partition in partitions)
    ]
